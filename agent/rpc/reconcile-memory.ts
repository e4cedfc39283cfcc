/**
 * What became of a change of memory that was under way when the agent died.
 *
 *     done      when the guest has that much; without `wait` also when QEMU has been told to offer it, which can be read of the memory
 *               device and not of the balloon
 *     not-done  else: the guest was perhaps asked, and may be asked again
 */
import { parseParams } from '../../shared/protocol/validate.ts';
import { mib } from '../vm/memory/memory-plan.ts';
import { readResize } from '../vm/memory/resize-memory.ts';
import type { Reconcilers } from './reconcile.ts';

const ASK_MS = 2_000;

export const MEMORY_RECONCILERS: Reconcilers = {
  'vm.resizeMemory': async ({ params, before }, vms) => {
    const { vm, bytes, wait } = parseParams('vm.resizeMemory', params);
    // The size is that of one run.
    if (vms.get(vm).generation !== before?.generation) return { outcome: 'unknown', reason: 'the VM was started anew meanwhile' };
    const operation = { doing: 'looking at the memory of', inTurn: true };
    const { stands, actualBytes } = await vms.operate(vm, operation, { timeoutMs: ASK_MS }, (live, deadline) =>
      readResize(live, bytes, deadline),
    );
    const reason = `the guest has ${mib(actualBytes)}`;
    const isDone = stands === 'there' || (stands === 'asked' && !wait);
    return isDone ? { outcome: 'done', reason, result: { targetBytes: bytes, actualBytes } } : { outcome: 'not-done', reason };
  },
};
