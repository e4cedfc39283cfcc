/** The fences of this host, read with the first command that carries one: a host that is in no rollout does without. */
import { join } from 'node:path';
import type { Fence } from '../../shared/protocol/fence.ts';
import type * as FencesModule from './fences.ts';
import type { TextFile } from './text-file.ts';

export const FENCES_FILE = 'fences.json';

/** Loaded once for all hosts of a process: a simulated fleet has thousands. */
let loading: Promise<typeof FencesModule> | undefined;

export function fenceKeeper(stateDir: string, file?: TextFile): (fence: Fence) => Promise<void> {
  let fences: FencesModule.Fences | undefined;
  return async (fence) => {
    loading ??= import('./fences.ts');
    const { Fences } = await loading;
    fences ??= new Fences(join(stateDir, FENCES_FILE), file);
    await fences.admit(fence);
  };
}
