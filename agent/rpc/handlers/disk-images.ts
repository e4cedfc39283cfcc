/** Methods that change what the disks of VMs stand on. */
import type { DISK_IMAGE_METHODS } from '../../../shared/protocol/methods-disk-images.ts';
import type { Snapshots } from '../../vm/snapshot/snapshots.ts';
import type { HandlersOf } from './types.ts';

export function diskImageHandlers(snapshots: Snapshots): HandlersOf<typeof DISK_IMAGE_METHODS> {
  return {
    'disk.flatten': (params, { signal, timeoutMs, progress }) =>
      snapshots.flatten(params, { signal, timeoutMs, onProgress: progress }),
    'disk.rebase': (params, { signal, timeoutMs, progress }) =>
      snapshots.rebase(params, { signal, timeoutMs, onProgress: progress }),
  };
}
