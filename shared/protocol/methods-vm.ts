/** Methods that act on one VM of a host. */
import * as v from 'valibot';
import { Count, Name, VsockPort } from './common.ts';
import type { MethodContract } from './contract.ts';
import { PageParams, pageOf } from './paging.ts';
import { VmInfo } from './vm.ts';
import { VmEvent } from './vm-events.ts';
import { VmSpec } from './vm-spec.ts';

const Vm = v.strictObject({ vm: Name });
const Milliseconds = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(24 * 3600 * 1000));

const agentCall = { target: 'agent', kind: 'call', since: 1 } as const;

export const VM_METHODS = {
  'vm.create': {
    ...agentCall,
    role: 'operator',
    idempotent: false,
    summary: 'Register a VM on the host without starting it',
    params: v.strictObject({ spec: VmSpec }),
    result: VmInfo,
    errors: ['CONFLICT', 'NOT_FOUND', 'UNSUPPORTED', 'LIMIT_EXCEEDED'],
  },
  'vm.redefine': {
    ...agentCall,
    role: 'operator',
    idempotent: true,
    summary: 'Give a VM that does not run another spec; its name, uuid and files stay',
    params: v.strictObject({ vm: Name, spec: VmSpec }),
    result: VmInfo,
    errors: ['NOT_FOUND', 'WRONG_STATE', 'UNSUPPORTED', 'LIMIT_EXCEEDED'],
  },
  'vm.start': {
    ...agentCall,
    role: 'operator',
    idempotent: true,
    summary: 'Start a VM; answers once QEMU runs the guest',
    params: Vm,
    result: VmInfo,
    errors: ['NOT_FOUND', 'WRONG_STATE', 'PROCESS_FAILED', 'QMP_FAILED', 'UNSUPPORTED'],
  },
  'vm.run': {
    ...agentCall,
    role: 'operator',
    idempotent: false,
    summary: 'Create a VM and start it',
    params: v.strictObject({ spec: VmSpec }),
    result: VmInfo,
    errors: ['CONFLICT', 'NOT_FOUND', 'UNSUPPORTED', 'LIMIT_EXCEEDED', 'PROCESS_FAILED', 'QMP_FAILED'],
  },
  'vm.get': {
    ...agentCall,
    role: 'viewer',
    idempotent: true,
    summary: 'What is known of one VM',
    params: Vm,
    result: VmInfo,
    errors: ['NOT_FOUND'],
  },
  'vm.list': {
    ...agentCall,
    role: 'viewer',
    idempotent: true,
    summary: 'Every VM of the host, by name',
    params: PageParams,
    result: pageOf('vms', VmInfo),
    errors: [],
  },
  'vm.pause': {
    ...agentCall,
    role: 'operator',
    idempotent: true,
    summary: 'Stop the guest CPUs',
    params: Vm,
    result: VmInfo,
    errors: ['NOT_FOUND', 'WRONG_STATE', 'QMP_FAILED'],
  },
  'vm.resume': {
    ...agentCall,
    role: 'operator',
    idempotent: true,
    summary: 'Let a guest go on that is paused or suspended',
    params: Vm,
    result: VmInfo,
    errors: ['NOT_FOUND', 'WRONG_STATE', 'UNSUPPORTED', 'LIMIT_EXCEEDED', 'PROCESS_FAILED', 'QMP_FAILED'],
  },
  'vm.reset': {
    ...agentCall,
    role: 'operator',
    idempotent: false,
    summary: 'Press the reset button; open streams into the guest are reset',
    params: Vm,
    result: VmInfo,
    errors: ['NOT_FOUND', 'WRONG_STATE', 'QMP_FAILED'],
  },
  'vm.powerdown': {
    ...agentCall,
    role: 'operator',
    idempotent: true,
    summary: 'Press the power button once and return; the guest may ignore it',
    params: Vm,
    result: VmInfo,
    errors: ['NOT_FOUND', 'WRONG_STATE', 'QMP_FAILED'],
  },
  'vm.stop': {
    ...agentCall,
    role: 'operator',
    idempotent: true,
    summary: 'Stop a VM: power button, then quit, SIGTERM, SIGKILL, each with its time; answers once the process is gone',
    params: v.strictObject({
      vm: Name,
      /** How long the guest has to shut down by itself, for which one that sleeps is woken; 0 goes to `quit` at once, and gives up one that sleeps. */
      graceMs: v.optional(Milliseconds, 10_000),
    }),
    result: v.strictObject({
      vm: VmInfo,
      endedBy: v.picklist(['guest', 'quit', 'sigterm', 'sigkill', 'discarded', 'already-stopped']),
    }),
    errors: ['NOT_FOUND', 'PROCESS_FAILED'],
  },
  'vm.delete': {
    ...agentCall,
    role: 'operator',
    idempotent: false,
    summary: 'Forget a VM and remove its state; a running one only with force',
    params: v.strictObject({ vm: Name, force: v.optional(v.boolean(), false) }),
    result: v.strictObject({}),
    errors: ['NOT_FOUND', 'WRONG_STATE', 'PROCESS_FAILED'],
  },
  'vm.qmp': {
    ...agentCall,
    role: 'admin',
    idempotent: false,
    summary: 'Send one QMP command that the host policy allows',
    params: v.strictObject({
      vm: Name,
      execute: v.pipe(v.string(), v.regex(/^[a-z][a-z0-9_-]{0,63}$/)),
      arguments: v.optional(v.record(v.pipe(v.string(), v.maxLength(64)), v.unknown())),
    }),
    result: v.strictObject({ return: v.unknown() }),
    errors: ['NOT_FOUND', 'WRONG_STATE', 'QMP_FAILED'],
  },
  'vm.events': {
    ...agentCall,
    role: 'viewer',
    idempotent: true,
    summary: 'Events of one VM or all; with follow each new one arrives as progress until the call is cancelled',
    params: v.strictObject({
      vm: v.optional(Name),
      /** Only events after this sequence number. An event that has left the log is told by `missed`. */
      since: v.optional(Count),
      /** The epoch that `since` is of; when the host lost its event log since, numbers started anew, and `since` counts as 0. */
      epoch: v.optional(v.pipe(v.string(), v.maxLength(64))),
      /** The oldest come first. Fewer may come than there are, so that the answer fits a message: go on from `lastSeq`. */
      limit: v.optional(v.pipe(Count, v.minValue(1), v.maxValue(1000)), 256),
      follow: v.optional(v.boolean(), false),
    }),
    result: v.strictObject({ epoch: v.string(), events: v.array(VmEvent), missed: Count, lastSeq: Count }),
    progress: VmEvent,
    errors: ['NOT_FOUND'],
  },
  'vm.args': {
    ...agentCall,
    role: 'viewer',
    idempotent: true,
    summary: 'The QEMU command line of a VM or of a spec, without running it',
    params: v.union([Vm, v.strictObject({ spec: VmSpec })]),
    result: v.strictObject({ binary: v.string(), argv: v.array(v.string()) }),
    errors: ['NOT_FOUND', 'UNSUPPORTED'],
  },
  'vm.capabilities': {
    ...agentCall,
    role: 'viewer',
    idempotent: true,
    summary: 'What can be done with this VM on this host',
    params: Vm,
    result: v.strictObject({
      pause: v.boolean(),
      snapshot: v.boolean(),
      memoryHotplug: v.boolean(),
      deviceHotplug: v.boolean(),
      vsock: v.boolean(),
      vsockHalfClose: v.boolean(),
      pciPassthrough: v.boolean(),
      diskThrottle: v.boolean(),
      reasons: v.record(v.string(), v.string()),
    }),
    errors: ['NOT_FOUND'],
  },
  'stream.open': {
    target: 'agent',
    kind: 'stream',
    since: 1,
    role: 'operator',
    idempotent: false,
    summary: 'Open a stream to a vsock port of the guest',
    params: v.strictObject({
      vm: Name,
      port: VsockPort,
      /** How long to retry a guest that is not ready. */
      connectTimeoutMs: v.optional(v.pipe(Milliseconds, v.maxValue(600_000)), 10_000),
    }),
    result: v.strictObject({ transport: v.string(), halfClose: v.boolean(), generation: Count }),
    errors: ['NOT_FOUND', 'WRONG_STATE', 'UNSUPPORTED', 'GUEST_REFUSED', 'GUEST_UNREACHABLE', 'LIMIT_EXCEEDED', 'PROCESS_FAILED'],
  },
} as const satisfies Record<string, MethodContract>;
