/** The fences of this host, read with the first command that carries one: a host that is in no rollout does without. */
import { join } from 'node:path';
import type { Fence } from '../../shared/protocol/fence.ts';
import type { Fences } from './fences.ts';
import type { TextFile } from './text-file.ts';

export const FENCES_FILE = 'fences.json';

export function fenceKeeper(stateDir: string, file?: TextFile): (fence: Fence) => Promise<void> {
  let fences: Promise<Fences> | undefined;
  return async (fence) => {
    fences ??= import('./fences.ts').then((module) => new module.Fences(join(stateDir, FENCES_FILE), file));
    await (await fences).admit(fence);
  };
}
