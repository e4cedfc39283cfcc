/**
 * What has to be put right if the agent dies while it makes a snapshot: written into the draft before anything of the VM is changed, gone
 * with the draft, or of no meaning once there is a manifest.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { Count, Name } from '../../../shared/protocol/common.ts';
import { writeFileAtomic } from '../atomic-file.ts';
import { Manifest } from './manifest.ts';

export const Intent = v.strictObject({
  vm: Name,
  /** Of its process: another one has nothing to do with this. */
  generation: Count,
  wasRunning: v.boolean(),
  unplugged: Manifest.entries.unplugged,
});
export type Intent = v.InferOutput<typeof Intent>;

const FILE = 'intent.json';

export async function writeIntent(directory: string, intent: Intent): Promise<void> {
  await writeFileAtomic(join(directory, FILE), JSON.stringify(intent));
}

/** Undefined where nothing had been done yet. */
export async function readIntent(directory: string): Promise<Intent | undefined> {
  const text = await readFile(join(directory, FILE), 'utf8').catch(() => undefined);
  const read = text === undefined ? undefined : v.safeParse(v.pipe(v.string(), v.parseJson(), Intent), text);
  return read?.success === true ? read.output : undefined;
}
