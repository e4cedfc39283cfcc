/**
 * The two groups that a gate compares, and what comes of the comparison. What befalls the whole fleet is seen on both sides: it is not blamed
 * on the change, and where it is grave nothing is said of the change either.
 *
 *     the changed ones    done, or failed after they were touched; those of the wave at hand first
 *     the control         hosts that wait for their turn, untouched; the same kinds of hosts as a canary has (host-order.ts)
 *
 * In neither is a host that somebody else has in hand. No control is, besides, one that somebody has changed since the rollout began, and one
 * that was away when it was planned and has not come back: no such host could have been changed.
 *
 * Nothing of it is kept: a hub that takes the rollout over draws the same groups from the same facts.
 */
import type { ControlCheck } from '../../../shared/protocol/rollout-checks.ts';
import { fractionOf } from '../../../shared/protocol/rollout-values.ts';
import { type Candidate, orderHosts } from './host-order.ts';
import type { HostState, RolloutState } from './state.ts';

/** What is known of a host besides the journal of the rollout. */
export interface Standing {
  readonly agentVersion: string;
  readonly hardware: string;
  /** Drained, in another rollout's hands, or just being worked on by a command of somebody. */
  readonly isInOtherHands: boolean;
  /** By a command of somebody, since the rollout began. */
  readonly isChangedByOthers: boolean;
  /** It has a line, or got one since the rollout began. */
  readonly hasComeBack: boolean;
}

export interface Groups {
  readonly changed: readonly string[];
  readonly control: readonly string[];
}

/** At most `size` hosts a side; a smaller size gives the beginning of a greater one. `standingOf`: undefined for a host that is enrolled no more. */
export function drawGroups(
  { id, wave, hosts }: RolloutState,
  standingOf: (host: string) => Standing | undefined,
  size: number,
): Groups {
  const changed: Candidate[] = [];
  const before: Candidate[] = [];
  const control: Candidate[] = [];
  for (const host of hosts.values()) {
    const standing = standingOf(host.host);
    if (standing === undefined || standing.isInOtherHands) continue;
    const { agentVersion, hardware, isChangedByOthers, hasComeBack } = standing;
    const candidate = { host: host.host, zone: host.zone, agentVersion, hardware };
    if (isChanged(host)) (host.wave === wave ? changed : before).push(candidate);
    else if (isUntouched(host) && !isChangedByOthers && (!host.away || hasComeBack)) control.push(candidate);
  }
  return {
    changed: namesOf([...orderHosts(id, changed), ...orderHosts(id, before)], size),
    control: namesOf(orderHosts(id, control), size),
  };
}

function isChanged({ touched, phase }: HostState): boolean {
  return touched && (phase === 'done' || phase === 'failed');
}

function isUntouched({ touched, phase }: HostState): boolean {
  return !touched && (phase === 'pending' || phase === 'waiting');
}

function namesOf(ordered: readonly Candidate[], size: number): string[] {
  return ordered.slice(0, size).map(({ host }) => host);
}

/** What was seen of one host. `untold`: it could not be asked, and stands for neither side of anything. */
export interface Look {
  readonly host: string;
  readonly answer: 'good' | 'bad' | 'untold';
  /** Why it is not good. */
  readonly why: string;
}

export interface Comparison {
  readonly answer: 'success' | 'failure' | 'inconclusive';
  readonly detail: string;
}

const MAX_NAMED = 5;
const MAX_WHY = 200;

export function compareGroups(rules: ControlCheck, changed: readonly Look[], control: readonly Look[]): Comparison {
  const [ours, others] = [countOf(changed), countOf(control)];
  const figures = `${ours.bad} of ${ours.told} changed and ${others.bad} of ${others.told} unchanged hosts are bad`;
  const said = (answer: Comparison['answer'], why: string, named: readonly Look[]): Comparison => ({
    answer,
    detail: `${figures}${why}${reasonsOf(named)}`,
  });
  if (ours.told === 0) return said('inconclusive', ', so no changed host could be asked', changed);
  if (others.told < rules.minHosts) {
    return said('inconclusive', `, and ${rules.minHosts} unchanged ones must be asked to tell`, control);
  }
  const [share, usual] = [ours.bad / ours.told, others.bad / others.told];
  if (exceeds(usual, fractionOf(rules.maxControlFailures))) {
    const why = `, and with more than ${rules.maxControlFailures} of the unchanged ones nothing is told of the change`;
    return said('inconclusive', why, control);
  }
  if (exceeds(share - usual, fractionOf(rules.maxExcess))) return said('failure', '', changed);
  return said('success', '', [...changed, ...control]);
}

/** Of shares of few hosts: what differs by less is the same. */
function exceeds(share: number, limit: number): boolean {
  return share - limit > 1e-9;
}

function countOf(looks: readonly Look[]): { readonly told: number; readonly bad: number } {
  const told = looks.filter(({ answer }) => answer !== 'untold');
  return { told: told.length, bad: told.filter(({ answer }) => answer === 'bad').length };
}

function reasonsOf(looks: readonly Look[]): string {
  const wrong = looks.filter(({ answer }) => answer !== 'good');
  if (wrong.length === 0) return '';
  const named = wrong.slice(0, MAX_NAMED).map(({ host, why }) => `${host} ${why.slice(0, MAX_WHY)}`);
  const more = wrong.length - named.length;
  return `: ${named.join('; ')}${more > 0 ? `; and ${more} more` : ''}`;
}
