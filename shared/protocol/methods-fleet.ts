/** Methods about the hosts of the fleet, answered by the hub. */
import * as v from 'valibot';
import { Count, Labels, Name, Timestamp } from './common.ts';
import type { MethodContract } from './contract.ts';
import { HostSelection } from './host-selector.ts';
import { PageParams, pageOf } from './paging.ts';

const hubCall = { target: 'hub', kind: 'call', since: 1 } as const;

export const HostCapabilities = v.strictObject({
  architecture: v.string(),
  cpus: Count,
  memoryBytes: Count,
  qemuVersion: v.optional(v.string()),
  kvm: v.boolean(),
  vsock: v.boolean(),
});
export type HostCapabilities = v.InferOutput<typeof HostCapabilities>;

const Cordon = v.strictObject({
  reason: v.string(),
  /** Id of the token. */
  by: v.string(),
  at: Timestamp,
  /** Its VMs were put to rest as well, and desired state starts none. */
  drained: v.boolean(),
});

/** A VM as its host last reported it. */
export const FleetVm = v.strictObject({
  host: Name,
  vm: Name,
  /** Whether its host has a line now; without one this is how it was. */
  connected: v.boolean(),
  state: v.string(),
  ready: v.boolean(),
  generation: Count,
  labels: Labels,
  uuid: v.optional(v.string()),
});
export type FleetVm = v.InferOutput<typeof FleetVm>;

const Host = v.strictObject({ host: Name });
const Reason = v.optional(v.pipe(v.string(), v.maxLength(500)), '');
/** `HOST/VM`, as `next` of the page before. */
const VmPlace = v.pipe(v.string(), v.maxLength(127), v.regex(/^[a-z0-9-]+\/[a-z0-9-]+$/));

const NotRested = v.strictObject({ vm: Name, code: v.string(), message: v.string() });

export const HostRecord = v.strictObject({
  host: Name,
  connected: v.boolean(),
  labels: Labels,
  enrolledAt: Timestamp,
  lastSeenAt: v.optional(Timestamp),
  /** Rises with each accepted session; the newest wins. */
  epoch: Count,
  agentVersion: v.optional(v.string()),
  contractVersion: v.optional(Count),
  /** The failure domain that it stands in: its label `zone`. */
  zone: v.optional(v.string()),
  /** As it last said. */
  capabilities: v.optional(HostCapabilities),
  /** It takes no new VMs. */
  cordoned: v.optional(Cordon),
  rttMs: v.optional(v.number()),
  remoteAddress: v.optional(v.string()),
});
export type HostRecord = v.InferOutput<typeof HostRecord>;

export const FLEET_METHODS = {
  'host.list': {
    ...hubCall,
    role: 'viewer',
    idempotent: true,
    summary: 'Enrolled hosts, connected or not, by name: all, or those that are selected',
    params: v.strictObject({
      ...PageParams.entries,
      ...HostSelection.entries,
      connected: v.optional(v.boolean()),
      cordoned: v.optional(v.boolean()),
    }),
    result: pageOf('hosts', HostRecord),
    errors: [],
  },
  'host.get': {
    ...hubCall,
    role: 'viewer',
    idempotent: true,
    summary: 'One enrolled host',
    params: v.strictObject({ host: Name }),
    result: HostRecord,
    errors: ['NOT_FOUND'],
  },
  'host.remove': {
    ...hubCall,
    role: 'admin',
    idempotent: false,
    summary: 'Forget a host and its key; its line is closed and it must enrol again',
    params: v.strictObject({ host: Name }),
    result: v.strictObject({}),
    errors: ['NOT_FOUND'],
  },
  'host.label': {
    ...hubCall,
    role: 'operator',
    idempotent: true,
    summary: 'Change labels of a host',
    params: v.strictObject({
      host: Name,
      set: v.optional(Labels, {}),
      remove: v.optional(v.pipe(v.array(v.pipe(v.string(), v.maxLength(63))), v.maxLength(64)), []),
    }),
    result: HostRecord,
    errors: ['NOT_FOUND'],
  },
  'host.cordon': {
    ...hubCall,
    role: 'operator',
    idempotent: true,
    summary: 'Let a host take no new VMs; those that it has go on',
    params: v.strictObject({ host: Name, reason: Reason }),
    result: HostRecord,
    errors: ['NOT_FOUND'],
  },
  'host.uncordon': {
    ...hubCall,
    role: 'operator',
    idempotent: true,
    summary: 'Let a host take VMs again, and desired state start its own',
    params: Host,
    result: HostRecord,
    errors: ['NOT_FOUND'],
  },
  'host.drain': {
    ...hubCall,
    role: 'operator',
    idempotent: true,
    summary: 'Cordon a host and put its VMs to rest, one result a VM; desired state starts none until it is uncordoned',
    params: v.strictObject({
      host: Name,
      reason: Reason,
      /** As of `vm.stop`, for each. */
      graceMs: v.optional(v.pipe(Count, v.maxValue(24 * 3600 * 1000)), 30_000),
      /** Suspend them, where they can be, instead of stopping them. */
      suspend: v.optional(v.boolean(), false),
    }),
    result: v.strictObject({ host: HostRecord, rested: v.array(Name), failed: v.array(NotRested) }),
    progress: v.union([NotRested, v.strictObject({ vm: Name })]),
    errors: ['NOT_FOUND', 'HOST_UNREACHABLE'],
  },
  'vm.find': {
    ...hubCall,
    role: 'viewer',
    idempotent: true,
    summary: 'VMs of the whole fleet as their hosts last reported them, those of hosts that are away included',
    params: v.strictObject({
      vm: v.optional(Name),
      state: v.optional(v.pipe(v.string(), v.maxLength(32))),
      /** Of the VM. */
      labels: v.optional(Labels, {}),
      /** Only on these hosts. */
      on: v.optional(HostSelection, {}),
      after: v.optional(VmPlace),
      limit: PageParams.entries.limit,
    }),
    result: v.strictObject({ vms: v.array(FleetVm), next: v.optional(VmPlace) }),
    errors: [],
  },
} as const satisfies Record<string, MethodContract>;
