/** Methods that change the memory of a running VM. */
import type { MEMORY_METHODS } from '../../../shared/protocol/methods-memory.ts';
import type { Vms } from '../../vm/api.ts';
import { MemoryResizer } from '../../vm/memory/resize-memory.ts';
import type { HandlersOf } from './types.ts';

export function memoryHandlers(vms: Vms): HandlersOf<typeof MEMORY_METHODS> {
  const resizer = new MemoryResizer(vms);
  return {
    'vm.resizeMemory': (params, { signal, timeoutMs, progress }) =>
      resizer.resize(params, { signal, timeoutMs, onProgress: progress }),
  };
}
