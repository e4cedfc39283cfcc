/** Methods that change the memory of a running VM. */
import * as v from 'valibot';
import { bytesAtLeast, Count, Name } from './common.ts';
import type { MethodContract } from './contract.ts';

const Size = v.strictObject({ targetBytes: Count, actualBytes: Count });

export const MEMORY_METHODS = {
  'vm.resizeMemory': {
    target: 'agent',
    kind: 'call',
    since: 1,
    role: 'operator',
    idempotent: true,
    summary:
      'Change how much memory a running guest has, by its balloon and its memory device; the next start has the size of the spec again',
    params: v.strictObject({
      vm: Name,
      /** Below `memory.bytes` of the spec the balloon takes the rest, above it the memory device gives more, up to `memory.maxBytes`. */
      bytes: bytesAtLeast('16MiB'),
      /** Answer once the guest has followed; otherwise as soon as it was asked to. */
      wait: v.optional(v.boolean(), true),
    }),
    result: Size,
    progress: Size,
    errors: ['NOT_FOUND', 'WRONG_STATE', 'UNSUPPORTED', 'CONFLICT', 'QMP_FAILED', 'GUEST_UNRESPONSIVE'],
  },
} as const satisfies Record<string, MethodContract>;
