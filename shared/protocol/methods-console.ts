/** Methods that give what a guest and its QEMU say, as streams. */
import * as v from 'valibot';
import { Count, Name } from './common.ts';
import type { MethodContract } from './contract.ts';

const MAX_HISTORY_BYTES = 1024 ** 2;

const agentStream = { target: 'agent', kind: 'stream', since: 1, idempotent: true } as const;

export const CONSOLE_METHODS = {
  'vm.console': {
    ...agentStream,
    role: 'operator',
    summary: "Join a VM's serial console: the end of what it wrote, what it writes from then on, and what is typed",
    params: v.strictObject({
      vm: Name,
      /** How much of what it wrote before comes first, at most, cut to whole lines. */
      historyBytes: v.optional(v.pipe(Count, v.maxValue(MAX_HISTORY_BYTES)), 4096),
      /** What is written to the stream is dropped. */
      readOnly: v.optional(v.boolean(), false),
    }),
    result: v.strictObject({
      /** How much of what comes was written before. */
      historyBytes: Count,
      generation: Count,
    }),
    errors: ['NOT_FOUND', 'WRONG_STATE'],
  },
  'vm.logs': {
    ...agentStream,
    role: 'viewer',
    summary: 'Read a log of a VM, whether it runs or not; with follow on over rolling and restarts until the VM is deleted',
    params: v.strictObject({
      vm: Name,
      /** `console`: what the guest wrote on its serial console; `qemu`: QEMU's own words. */
      source: v.optional(v.picklist(['console', 'qemu']), 'console'),
      /** Without either, all that is kept. */
      tailLines: v.optional(Count),
      tailBytes: v.optional(Count),
      follow: v.optional(v.boolean(), false),
    }),
    result: v.strictObject({ historyBytes: Count }),
    errors: ['NOT_FOUND'],
  },
} as const satisfies Record<string, MethodContract>;
