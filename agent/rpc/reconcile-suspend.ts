/**
 * What became of a suspend, a resume or a hold that was under way when the agent died. Its VM has been brought to an end of it by then, one
 * way or the other (vm/snapshot/sleeper.ts): it sleeps, or it runs, or it is lost.
 */
import type { VmInfo } from '../../shared/protocol/vm.ts';
import type { Vms } from '../vm/api.ts';
import { byRunState, type Reconcilers } from './reconcile.ts';

/** For a guest that has to be brought back first. */
const WAIT_MS = 60_000;

export const SUSPEND_RECONCILERS: Reconcilers = {
  'vm.suspend': async ({ vm, before }, vms) => {
    if (vm === undefined) return { outcome: 'unknown', reason: 'it names no VM' };
    const info = await awakeOrAsleep(vms, vm);
    const reason = `it is ${info.state}`;
    if (info.state === 'suspended') return { outcome: 'done', reason, result: { vm: info } };
    const isSame = info.state === 'running' && info.generation === before?.generation;
    return { outcome: isSame ? 'not-done' : 'unknown', reason };
  },
  'vm.resume': async (operation, vms) => {
    const { vm, before } = operation;
    if (vm === undefined || before?.state !== 'suspended') return byRunState(operation, vms, 'running');
    const info = await awakeOrAsleep(vms, vm);
    const reason = `it is ${info.state}`;
    if (info.state === 'suspended') return { outcome: 'not-done', reason };
    const isNext = info.state === 'running' && info.generation === before.generation + 1;
    return isNext ? { outcome: 'done', reason, result: info } : { outcome: 'unknown', reason };
  },
  // It lasted as long as the agent; asked for again, it does what it did.
  'vm.hold': () => ({ outcome: 'not-done', reason: 'it ended with the agent' }),
};

async function awakeOrAsleep(vms: Vms, vm: string): Promise<VmInfo> {
  const limit = AbortSignal.timeout(WAIT_MS);
  const isBetween = (): boolean => ['suspending', 'resuming'].includes(vms.get(vm).state);
  if (isBetween()) {
    for await (const _ of vms.events.follow({ vm, signal: limit })) if (!isBetween()) break;
  }
  return vms.get(vm);
}
