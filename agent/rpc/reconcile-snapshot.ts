/**
 * What became of a command on snapshots that was under way when the agent died. What was half made is undone first:
 *
 *     snapshot.create    done when there is one of that name that was made since, else not done
 *     vm.restore         done when the VM runs and was begun by it, else not done; one that was made for it is removed
 *     vm.clone           done when all of them ran, else not done: those that were made are removed
 *     disk.flatten, disk.rebase          by what the image names; a copy that goes on in QEMU is waited for by the repeat
 *     snapshot.remove, snapshot.prune    not done: a repeat removes what is left
 */
import { isDeepStrictEqual } from 'node:util';
import { parseParams } from '../../shared/protocol/validate.ts';
import type { Vms } from '../vm/api.ts';
import { requireDisk } from '../vm/devices/find-disk.ts';
import { REST_STATES } from '../vm/machine.ts';
import { backingOf } from '../vm/snapshot/image-chain.ts';
import { isMadeBy } from '../vm/snapshot/restore-intent.ts';
import type { Snapshots } from '../vm/snapshot/snapshots.ts';
import type { Reconciliation } from './operation-record.ts';
import type { Reconcilers } from './reconcile.ts';

/** `openedAt`: when this agent began; what came since is of no command that an earlier one left. */
export function snapshotReconcilers(snapshots: Snapshots, openedAt = new Date().toISOString()): Reconcilers {
  return {
    'snapshot.create': async ({ params, acceptedAt }) => {
      const { name } = parseParams('snapshot.create', params);
      const found = await snapshots.find(name);
      if (found === undefined) return { outcome: 'not-done', reason: `there is no snapshot ${name}` };
      if (found.createdAt < acceptedAt) return { outcome: 'not-done', reason: `snapshot ${name} was there before` };
      return { outcome: 'done', reason: `snapshot ${name} is there`, result: found };
    },
    'vm.restore': async ({ params, acceptedAt }, vms) => {
      const { snapshot } = parseParams('vm.restore', params);
      const vm = (await snapshots.find(snapshot))?.vm;
      // Read first, so that nothing comes between the look at the VM and its removal.
      const begun = await snapshots.restoresSince(snapshot, acceptedAt);
      const info = vms.list().find(({ name }) => name === vm);
      if (info === undefined) return { outcome: 'not-done', reason: 'the VM is not there' };
      const isAtRest = REST_STATES.includes(info.state);
      // A command that names a snapshot alone has no `before`, and nothing waits for it to be settled: what is its own is told by times, and
      // what it has made also by what was written down of it until its guest went on.
      const isOfIt = (at: string | undefined) => at !== undefined && at >= acceptedAt && at < openedAt;
      const hasNeverRun = info.state === 'created' || info.exit?.reason === 'start-failed';
      const isHalfMade = isAtRest && hasNeverRun && info.generation <= 1 && isOfIt(info.createdAt);
      if (isHalfMade && begun.some((intent) => isMadeBy(intent, info))) {
        await vms.delete(info.name, { force: true });
        return { outcome: 'not-done', reason: 'the VM that was made for it had not run, so it was removed' };
      }
      if (isAtRest) return { outcome: 'not-done', reason: `the VM is ${info.state}` };
      if (!isOfIt(info.startedAt)) return { outcome: 'not-done', reason: 'the VM runs, but was not begun by it' };
      return { outcome: 'done', reason: `the VM runs, generation ${info.generation}`, result: info };
    },
    'vm.clone': async ({ params, acceptedAt }, vms) => {
      const { snapshot, count, names } = parseParams('vm.clone', params);
      const isIt = (made: readonly string[]) => (names === undefined ? made.length === count : isDeepStrictEqual(made, names));
      const [one, ...others] = (await snapshots.clonesSince(snapshot, acceptedAt)).filter((intent) => isIt(intent.names));
      if (others.length > 0) return { outcome: 'unknown', reason: `snapshot ${snapshot} was cloned like this several times` };
      if (one === undefined) return { outcome: 'not-done', reason: 'no clone had been made' };
      const { made, answer } = one;
      if (answer === undefined)
        return { outcome: 'not-done', reason: 'not all of them ran, so those that were made are removed' };
      const there = vms.list().filter(({ name, uuid }) => made[name] === uuid);
      return { outcome: 'done', reason: 'all of them were made', result: { vms: there, ...answer } };
    },
    'disk.flatten': async ({ params }, vms) => standsOn(vms, parseParams('disk.flatten', params), undefined),
    'disk.rebase': async ({ params }, vms) => {
      const { vm, id, snapshot } = parseParams('disk.rebase', params);
      return standsOn(vms, { vm, id }, (await snapshots.diskOf(snapshot, id)).path);
    },
    'snapshot.remove': () => ({ outcome: 'not-done', reason: 'a repeat removes what is left' }),
    'snapshot.prune': () => ({ outcome: 'not-done', reason: 'a repeat removes what is left' }),
  };
}

async function standsOn(
  vms: Vms,
  { vm, id }: { readonly vm: string; readonly id: string },
  wanted: string | undefined,
): Promise<Reconciliation> {
  const info = vms.list().find(({ name }) => name === vm);
  if (info === undefined) return { outcome: 'unknown', reason: 'the VM is not there' };
  const below = (await backingOf(requireDisk(info, id)))?.path;
  const reason = `its image stands on ${below ?? 'nothing'}`;
  return below === wanted ? { outcome: 'done', reason, result: { changed: true } } : { outcome: 'not-done', reason };
}
