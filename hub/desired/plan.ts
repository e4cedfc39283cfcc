/** From documents to what each host is to have, and what that changes. Pure. */
import { canonicalJson } from '../../shared/canonical-json.ts';
import { FairleadError, type JsonValue } from '../../shared/errors.ts';
import { sha256 } from '../../shared/node/host-key.ts';
import { isSelected } from '../../shared/protocol/host-selector.ts';
import {
  APPLY_LABEL,
  type DesiredVm,
  type FleetChange,
  type FleetDocument,
  SPEC_LABEL,
} from '../../shared/protocol/methods-desired.ts';
import type { ReportedVm } from '../sessions/inventory.ts';
import type { HostState } from '../store/records.ts';

export type PlannedHost = Pick<HostState, 'host' | 'labels' | 'cordoned'>;

const DIGEST_LENGTH = 16;

/**
 * The VMs that a host is to have of all documents, by name. A host that is cordoned keeps what it has, and gets no new one.
 *
 * @throws FairleadError CONFLICT: two rows want a VM of the same name there
 */
export function vmsOfHost(host: PlannedHost, documents: readonly FleetDocument[], has: (vm: string) => boolean): DesiredVm[] {
  const vms = new Map<string, { readonly vm: DesiredVm; readonly document: string }>();
  for (const document of documents) {
    for (const { on, spec, ...upkeep } of document.vms) {
      if (!isSelected(host, on) || (host.cordoned !== undefined && !has(spec.name))) continue;
      const other = vms.get(spec.name);
      if (other !== undefined) {
        const message = `documents ${other.document} and ${document.name} both want a VM ${spec.name} on host ${host.host}: give one another name, or other hosts`;
        throw new FairleadError('CONFLICT', message, { details: { host: host.host, vm: spec.name } });
      }
      vms.set(spec.name, { vm: { ...upkeep, spec: labelled(spec, document.name) }, document: document.name });
    }
  }
  return [...vms.values()].map(({ vm }) => vm).sort((a, b) => (a.spec.name < b.spec.name ? -1 : 1));
}

/** What one host is to have goes to it in one message (262,144 bytes), of which this leaves room for the rest. */
const MAX_STATE_BYTES = 248 * 1024;

/** @throws FairleadError LIMIT_EXCEEDED for more than can be given to the host */
export function requireFitting(host: string, vms: readonly DesiredVm[]): void {
  const bytes = Buffer.byteLength(JSON.stringify(vms));
  if (bytes <= MAX_STATE_BYTES) return;
  const message = `host ${host} would be to have ${vms.length} VMs of ${bytes} bytes in all, and ${MAX_STATE_BYTES} can be given to it: choose fewer for it, or shorter specs`;
  throw new FairleadError('LIMIT_EXCEEDED', message, { details: { host, vms: vms.length, bytes } });
}

/** What a document changes on a host that has these VMs. */
export function changesOn(host: string, name: string, wanted: readonly DesiredVm[], has: readonly ReportedVm[]): FleetChange[] {
  const byName = new Map(has.map((vm) => [vm.name, vm]));
  const own = wanted.filter(({ spec }) => spec.labels[APPLY_LABEL] === name);
  const changes = own.map(({ spec }): FleetChange => {
    const vm = byName.get(spec.name);
    if (vm === undefined) return { host, vm: spec.name, change: 'create' };
    if (vm.labels[APPLY_LABEL] === undefined) {
      return {
        host,
        vm: spec.name,
        change: 'conflict',
        reason: 'a VM of that name is there that was made by hand; it is left alone',
      };
    }
    return { host, vm: spec.name, change: vm.labels[SPEC_LABEL] === spec.labels[SPEC_LABEL] ? 'keep' : 'replace' };
  });
  const names = new Set(wanted.map(({ spec }) => spec.name));
  const gone = has.filter((vm) => vm.labels[APPLY_LABEL] === name && !names.has(vm.name));
  return [...changes, ...gone.map((vm): FleetChange => ({ host, vm: vm.name, change: 'remove' }))];
}

export function digestOf(value: unknown): string {
  // SAFETY: only what came out of JSON, or of a schema of such, is digested here.
  return sha256(canonicalJson(value as JsonValue)).toString('hex');
}

function labelled(spec: DesiredVm['spec'], document: string): DesiredVm['spec'] {
  const digest = digestOf(spec).slice(0, DIGEST_LENGTH);
  return { ...spec, labels: { ...spec.labels, [APPLY_LABEL]: document, [SPEC_LABEL]: digest } };
}
