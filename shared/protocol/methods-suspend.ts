/** Methods that put a VM to sleep, and keep it from that. `vm.resume` wakes it, and so does whoever wants something of its guest. */
import * as v from 'valibot';
import { Count, Name, Timestamp } from './common.ts';
import type { MethodContract } from './contract.ts';
import { VmInfo } from './vm.ts';

const agentCall = { target: 'agent', kind: 'call', since: 1 } as const;

/** A week. */
const MAX_HOLD_MS = 7 * 24 * 3600 * 1000;

export const SUSPEND_METHODS = {
  'vm.suspend': {
    ...agentCall,
    role: 'operator',
    idempotent: true,
    summary: 'Save a running guest and end its process; its RAM stays in its file, so both ways take milliseconds',
    params: v.strictObject({
      vm: Name,
      /** `host`: RAM is on the disk before the answer, and the guest outlives a restart of its host. */
      durability: v.optional(v.picklist(['process', 'host']), 'process'),
    }),
    result: v.strictObject({ vm: VmInfo }),
    errors: ['NOT_FOUND', 'WRONG_STATE', 'CONFLICT', 'UNSUPPORTED', 'GUEST_UNRESPONSIVE', 'QMP_FAILED', 'PROCESS_FAILED'],
  },
  'vm.hold': {
    ...agentCall,
    role: 'operator',
    idempotent: true,
    summary: 'Keep a VM awake for a time, whatever its idle policy says; one that sleeps is woken',
    params: v.strictObject({ vm: Name, forMs: v.pipe(Count, v.maxValue(MAX_HOLD_MS)) }),
    result: v.strictObject({ vm: VmInfo, until: Timestamp }),
    errors: ['NOT_FOUND', 'WRONG_STATE', 'UNSUPPORTED', 'PROCESS_FAILED', 'QMP_FAILED'],
  },
} as const satisfies Record<string, MethodContract>;
