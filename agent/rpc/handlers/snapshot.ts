/** Methods on named snapshots. */
import type { SNAPSHOT_METHODS } from '../../../shared/protocol/methods-snapshot.ts';
import type { Snapshots } from '../../vm/snapshot/snapshots.ts';
import type { HandlersOf } from './types.ts';

export function snapshotHandlers(snapshots: Snapshots): HandlersOf<typeof SNAPSHOT_METHODS> {
  return {
    'snapshot.create': (params, { signal, timeoutMs, progress }) =>
      snapshots.create(params, { signal, timeoutMs, onProgress: progress }),
    'snapshot.list': (params) => snapshots.list(params),
    'snapshot.show': (params) => snapshots.show(params),
    'snapshot.verify': (params, context) => snapshots.verify(params, context),
    'snapshot.remove': (params) => snapshots.remove(params),
    'snapshot.prune': (params) => snapshots.prune(params),
    'vm.restore': (params, context) => snapshots.restore(params, context),
    'vm.clone': (params, context) => snapshots.clone(params, context),
  };
}
