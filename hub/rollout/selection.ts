/** From a selector to hosts of the fleet. */
import { FairleadError } from '../../shared/errors.ts';
import type { RolloutSpec } from '../../shared/protocol/rollout-spec.ts';
import { HOSTS, type HostState } from '../store/records.ts';
import type { Store } from '../store/store.ts';
import type { Candidate } from './core/host-order.ts';

/** Labels that say where a host is and what it is. */
const ZONE_LABEL = 'zone';
const HARDWARE_LABEL = 'hardware';
const NO_ZONE = 'default';

/** @throws FairleadError NOT_FOUND for a host that is named and not enrolled */
export async function selectHosts(store: Store, { hosts: names, labels }: RolloutSpec['selector']): Promise<Candidate[]> {
  const enrolled = await store.collection(HOSTS).list();
  const wanted = names === undefined ? undefined : new Set(names);
  const found = enrolled.map(({ value }) => value).filter((host) => isSelected(host, wanted, labels));
  const known = new Set(enrolled.map(({ value }) => value.host));
  const missing = names?.find((name) => !known.has(name));
  if (missing !== undefined)
    throw new FairleadError('NOT_FOUND', `no host ${missing} is enrolled, which the rollout's selector names`);
  return found.map(candidateOf);
}

function isSelected(host: HostState, names: ReadonlySet<string> | undefined, labels: Readonly<Record<string, string>>): boolean {
  if (names !== undefined && !names.has(host.host)) return false;
  return Object.entries(labels).every(([key, value]) => host.labels[key] === value);
}

export function candidateOf({ host, labels, agentVersion = '' }: HostState): Candidate {
  return { host, zone: labels[ZONE_LABEL] ?? NO_ZONE, agentVersion, hardware: labels[HARDWARE_LABEL] ?? '' };
}
