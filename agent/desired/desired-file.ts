/**
 * What this host is to have, on its disk:
 *
 *     STATE/desired.json     the state as the hub gave it, and which VMs were made for it (by uuid: a clone, or a VM made anew by hand, is none)
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { FairleadError } from '../../shared/errors.ts';
import { DesiredState } from '../../shared/protocol/methods-desired.ts';
import { writeFileAtomic } from '../vm/atomic-file.ts';

const Kept = v.strictObject({ state: DesiredState, owned: v.record(v.string(), v.string()) });
export type KeptDesired = v.InferOutput<typeof Kept>;

export const NOTHING_DESIRED: KeptDesired = { state: { generation: 0, hold: false, vms: [] }, owned: {} };

export function desiredPath(stateDir: string): string {
  return join(stateDir, 'desired.json');
}

/** @throws FairleadError STORAGE_FAILED where it is damaged: nothing is removed on a guess */
export async function readDesired(stateDir: string): Promise<KeptDesired> {
  const path = desiredPath(stateDir);
  try {
    return v.parse(Kept, JSON.parse(await readFile(path, 'utf8')));
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT') return NOTHING_DESIRED;
    const message = `could not read ${path}, so that desired state is not kept: remove the file, and the hub gives it anew`;
    throw new FairleadError('STORAGE_FAILED', message, { cause });
  }
}

export async function writeDesired(stateDir: string, kept: KeptDesired): Promise<void> {
  try {
    await writeFileAtomic(desiredPath(stateDir), JSON.stringify(kept));
  } catch (cause) {
    throw new FairleadError('STORAGE_FAILED', `could not write ${desiredPath(stateDir)}: ${String(cause)}`, { cause });
  }
}
