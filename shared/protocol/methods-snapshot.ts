/** Methods on named snapshots of VMs: how they are made, kept, checked and used (agent/vm/snapshot has how). */
import * as v from 'valibot';
import { Count, Name } from './common.ts';
import type { MethodContract } from './contract.ts';
import { PageParams, pageOf } from './paging.ts';
import { SnapshotInfo, SnapshotMode, SnapshotProgress } from './snapshot.ts';
import { VmInfo } from './vm.ts';

const Snapshot = v.strictObject({ snapshot: Name });

const agentCall = { target: 'agent', kind: 'call', since: 1 } as const;
const MAX_CLONES = 256;

export const SNAPSHOT_METHODS = {
  'snapshot.create': {
    ...agentCall,
    role: 'operator',
    idempotent: false,
    summary: 'Save a VM, memory and disks of one moment, under a name; the VM goes on as it was, cancelled or not',
    params: v.strictObject({
      vm: Name,
      /** Of the snapshot; one of its own on the host. */
      name: Name,
      mode: v.optional(SnapshotMode, 'stream'),
      /** Networks and vsock are taken out of the guest before and put back after, so that clones get their own. */
      clonable: v.optional(v.boolean(), false),
      /** It is given up when no byte has moved for so long. */
      stallTimeoutMs: v.optional(v.pipe(Count, v.minValue(100), v.maxValue(3_600_000)), 60_000),
    }),
    result: SnapshotInfo,
    progress: SnapshotProgress,
    errors: ['NOT_FOUND', 'CONFLICT', 'WRONG_STATE', 'UNSUPPORTED', 'QMP_FAILED', 'GUEST_UNRESPONSIVE', 'STORAGE_FAILED'],
  },
  'snapshot.list': {
    ...agentCall,
    role: 'viewer',
    idempotent: true,
    summary: 'The snapshots of the host, or of one VM, by name',
    params: v.strictObject({ ...PageParams.entries, vm: v.optional(Name) }),
    result: v.strictObject({
      ...pageOf('snapshots', SnapshotInfo).entries,
      /** Directories that hold no snapshot that can be read, with the reason. */
      broken: v.array(v.strictObject({ name: v.string(), reason: v.string() })),
    }),
    errors: ['STORAGE_FAILED'],
  },
  'snapshot.show': {
    ...agentCall,
    role: 'viewer',
    idempotent: true,
    summary: 'What is known of one snapshot, with the hardware that its guest saw',
    params: Snapshot,
    result: v.strictObject({ snapshot: SnapshotInfo, abi: v.record(v.string(), v.unknown()), disks: v.array(v.string()) }),
    errors: ['NOT_FOUND', 'STORAGE_FAILED'],
  },
  'snapshot.verify': {
    ...agentCall,
    role: 'viewer',
    idempotent: true,
    summary: 'Read all of a snapshot and compare it with what was written; takes as long as its files are large',
    params: Snapshot,
    result: v.strictObject({
      ok: v.boolean(),
      /** What is not as it was written, a clause each. */
      problems: v.array(v.string()),
      readBytes: Count,
    }),
    errors: ['NOT_FOUND', 'STORAGE_FAILED'],
  },
  'snapshot.remove': {
    ...agentCall,
    role: 'operator',
    idempotent: true,
    summary: 'Remove a snapshot that nothing stands on',
    params: Snapshot,
    result: v.strictObject({ removed: v.boolean() }),
    errors: ['CONFLICT', 'STORAGE_FAILED'],
  },
  'snapshot.prune': {
    ...agentCall,
    role: 'operator',
    idempotent: true,
    summary: 'Remove all but the newest snapshots of a VM, or of every VM; those in use stay',
    params: v.strictObject({ vm: v.optional(Name), keep: Count }),
    result: v.strictObject({ removed: v.array(Name), inUse: v.array(Name) }),
    errors: ['STORAGE_FAILED'],
  },
  'vm.restore': {
    ...agentCall,
    role: 'operator',
    idempotent: false,
    summary: 'Bring a VM back to a snapshot of it, memory and disks; it must be stopped, or gone',
    params: v.strictObject({
      snapshot: Name,
      /** However it was when it was saved. */
      state: v.optional(v.picklist(['running', 'paused']), 'running'),
    }),
    result: VmInfo,
    errors: ['NOT_FOUND', 'CONFLICT', 'WRONG_STATE', 'UNSUPPORTED', 'PROCESS_FAILED', 'QMP_FAILED', 'STORAGE_FAILED'],
  },
  'vm.clone': {
    ...agentCall,
    role: 'operator',
    idempotent: false,
    summary: 'Make VMs from a clonable snapshot, running, each with an identity of its own; all of them or none',
    params: v.strictObject({
      snapshot: Name,
      count: v.optional(v.pipe(Count, v.minValue(1), v.maxValue(MAX_CLONES)), 1),
      /** One each. By default the name of the snapshot's VM with a number. */
      names: v.optional(v.pipe(v.array(Name), v.maxLength(MAX_CLONES))),
    }),
    result: v.strictObject({
      vms: v.array(VmInfo),
      /** `shared`: its RAM is the snapshot's until it is written to. `copied`: each has a copy of its own, for the reason given. */
      memory: v.picklist(['shared', 'copied']),
      why: v.optional(v.string()),
      /** Clones whose kernel could not be given random numbers of its own, and why. Where there is no guest agent nothing is tried. */
      randomSeeds: v.optional(v.record(v.string(), v.string()), {}),
      /** Clones whose clock could not be set, and why. */
      clocks: v.record(v.string(), v.string()),
      /** Clones whose guest could not be told its name, and why. Where there is no guest agent nothing is tried. */
      hostNames: v.optional(v.record(v.string(), v.string()), {}),
    }),
    errors: ['NOT_FOUND', 'CONFLICT', 'UNSUPPORTED', 'LIMIT_EXCEEDED', 'PROCESS_FAILED', 'QMP_FAILED', 'STORAGE_FAILED'],
  },
} as const satisfies Record<string, MethodContract>;
