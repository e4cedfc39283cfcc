/**
 * Desired state: which VMs there are to be, and the hosts see to it.
 *
 *     an operator ──fleet.apply──▶ hub: which host is to have which VMs ──desired.set──▶ agent: keeps it, with the hub away and over restarts
 *
 * A document has a name, and the VMs made for it carry that as a label. Only VMs that were made so are ever changed, stopped or removed; one
 * of the same name that somebody else made is a conflict, which is told and left alone.
 */
import * as v from 'valibot';
import { Count, Name, Timestamp } from './common.ts';
import type { MethodContract } from './contract.ts';
import { HostSelection } from './host-selector.ts';
import { VmSpec } from './vm-spec.ts';

/** Labels of a VM that was made for a document: its name, and the digest of the spec that it was made from. */
export const APPLY_LABEL = 'fairlead/apply';
export const SPEC_LABEL = 'fairlead/spec';

const upkeep = {
  /** `running`: started where it is at rest, and after a crash; one that is suspended or paused is left so. */
  power: v.optional(v.picklist(['running', 'stopped']), 'running'),
  /** A VM whose spec is another now is stopped and made anew at once, or only once it is at rest. */
  replace: v.optional(v.picklist(['at-once', 'when-stopped']), 'at-once'),
  /** As of `vm.stop`. */
  graceMs: v.optional(v.pipe(Count, v.maxValue(3600_000)), 30_000),
} as const;

export const DesiredVm = v.strictObject({ ...upkeep, spec: VmSpec });
export type DesiredVm = v.InferOutput<typeof DesiredVm>;

/** All that one host is to have. A host obeys the highest generation that it was given. */
export const DesiredState = v.strictObject({
  generation: Count,
  /** Nothing is begun: the host is being worked on. */
  hold: v.boolean(),
  vms: v.pipe(v.array(DesiredVm), v.maxLength(4096)),
});
export type DesiredState = v.InferOutput<typeof DesiredState>;

/** How a VM that is to be there stands. `conflict`: one of its name was made by somebody else. `waiting`: until it may be tried again, or is at rest. */
export const UPKEEP_STATES = ['ok', 'working', 'waiting', 'held', 'conflict'] as const;
const DesiredStatus = v.strictObject({
  generation: Count,
  hold: v.boolean(),
  vms: v.array(v.strictObject({ vm: Name, upkeep: v.picklist(UPKEEP_STATES), reason: v.optional(v.string()) })),
});
export type DesiredStatus = v.InferOutput<typeof DesiredStatus>;

/** What an operator writes: on each host that is selected, one VM of each row. */
const FleetVmRow = v.strictObject({ on: v.optional(HostSelection, {}), ...upkeep, spec: VmSpec });
export const FleetDocument = v.strictObject({
  name: Name,
  vms: v.pipe(v.array(FleetVmRow), v.maxLength(1000)),
});
export type FleetDocument = v.InferOutput<typeof FleetDocument>;

export const CHANGES = ['create', 'replace', 'remove', 'keep', 'conflict'] as const;
const Change = v.strictObject({ host: Name, vm: Name, change: v.picklist(CHANGES), reason: v.optional(v.string()) });
export type FleetChange = v.InferOutput<typeof Change>;

const HostUpkeep = v.strictObject({
  host: Name,
  connected: v.boolean(),
  generation: Count,
  /** The one that the host has said it keeps. */
  acknowledged: Count,
  vms: Count,
});

const hubCall = { target: 'hub', kind: 'call', since: 1 } as const;
const agentCall = { target: 'agent', kind: 'call', since: 1 } as const;
const ByName = v.strictObject({ name: Name });

export const DESIRED_METHODS = {
  'desired.set': {
    ...agentCall,
    role: 'admin',
    idempotent: true,
    summary: 'Give a host all the VMs that it is to have, as the hub does; answers once it is kept on its disk',
    params: DesiredState,
    result: DesiredStatus,
    errors: ['CONFLICT', 'STORAGE_FAILED'],
  },
  'desired.get': {
    ...agentCall,
    role: 'viewer',
    idempotent: true,
    summary: 'What a host is to have, and how each of it stands',
    params: v.strictObject({}),
    result: DesiredStatus,
    errors: [],
  },
  'fleet.apply': {
    ...hubCall,
    role: 'operator',
    idempotent: true,
    summary:
      'Let hosts have the VMs of a document, in place of those of its earlier version; a dry run only tells what would change',
    params: v.strictObject({ document: FleetDocument, dryRun: v.optional(v.boolean(), false) }),
    result: v.strictObject({ changes: v.array(Change), hosts: Count, omitted: Count }),
    errors: ['CONFLICT', 'INVALID_PARAMS', 'LIMIT_EXCEEDED', 'STORAGE_FAILED'],
  },
  'fleet.list': {
    ...hubCall,
    role: 'viewer',
    idempotent: true,
    summary: 'Documents that are applied',
    params: v.strictObject({}),
    result: v.strictObject({
      documents: v.array(v.strictObject({ name: Name, rows: Count, appliedAt: Timestamp, by: v.string() })),
    }),
    errors: [],
  },
  'fleet.get': {
    ...hubCall,
    role: 'viewer',
    idempotent: true,
    summary: 'One document, and how far the hosts have it',
    params: ByName,
    result: v.strictObject({ document: FleetDocument, hosts: v.array(HostUpkeep), omitted: Count }),
    errors: ['NOT_FOUND'],
  },
  'fleet.remove': {
    ...hubCall,
    role: 'operator',
    idempotent: true,
    summary: 'Forget a document; the VMs that were made for it are stopped and removed, their disks stay',
    params: ByName,
    result: v.strictObject({}),
    errors: ['NOT_FOUND', 'STORAGE_FAILED'],
  },
} as const satisfies Record<string, MethodContract>;
