/**
 * What became of a command on snapshots that was under way when the agent died. What was half made is undone first:
 *
 *     snapshot.create    done when there is one of that name that was made since, else not done
 *     vm.restore         done when the VM runs in a later generation, not done when it does not run; one that was made for it is removed
 *     vm.clone           unknown: clones that were made of it are there, for a person to look at
 *     snapshot.remove, snapshot.prune    not done: a repeat removes what is left
 */
import { parseParams } from '../../shared/protocol/validate.ts';
import { REST_STATES } from '../vm/machine.ts';
import type { Snapshots } from '../vm/snapshot/snapshots.ts';
import type { Reconcilers } from './reconcile.ts';

export function snapshotReconcilers(snapshots: Snapshots): Reconcilers {
  return {
    'snapshot.create': async ({ params, acceptedAt }) => {
      const { name } = parseParams('snapshot.create', params);
      const found = await snapshots.find(name);
      if (found === undefined) return { outcome: 'not-done', reason: `there is no snapshot ${name}` };
      if (found.createdAt < acceptedAt) return { outcome: 'not-done', reason: `snapshot ${name} was there before` };
      return { outcome: 'done', reason: `snapshot ${name} is there`, result: found };
    },
    'vm.restore': async ({ params, before }, vms) => {
      const { snapshot } = parseParams('vm.restore', params);
      const vm = (await snapshots.find(snapshot))?.vm;
      const info = vms.list().find(({ name }) => name === vm);
      if (info === undefined) return { outcome: 'not-done', reason: 'the VM is not there' };
      const isAtRest = REST_STATES.includes(info.state);
      // A command that names a snapshot alone has no `before`: the VM is told by its never having run.
      if (isAtRest && before === undefined && info.state === 'created') await vms.delete(info.name, { force: true });
      if (isAtRest) return { outcome: 'not-done', reason: `the VM is ${info.state}` };
      return { outcome: 'done', reason: `the VM runs, generation ${info.generation}`, result: info };
    },
    'snapshot.remove': () => ({ outcome: 'not-done', reason: 'a repeat removes what is left' }),
    'snapshot.prune': () => ({ outcome: 'not-done', reason: 'a repeat removes what is left' }),
  };
}
