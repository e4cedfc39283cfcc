/**
 * Which VM a restore has made because there was none any more, kept on disk beside the snapshot until its guest goes on, so that what an agent
 * that died left half made can be told from a VM of somebody else's:
 *
 *     begun ──▶ its uuid, as it is made ──▶ its guest goes on, or it is deleted again: removed
 *                   └── the agent died: rpc/reconcile-snapshot.ts deletes that VM, and the next restore that makes one forgets it
 */
import { randomUUID } from 'node:crypto';
import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { Timestamp } from '../../../shared/protocol/common.ts';
import type { VmInfo } from '../../../shared/protocol/vm.ts';
import { writeFileAtomic } from '../atomic-file.ts';

const RestoreIntent = v.strictObject({
  at: Timestamp,
  /** Absent until the VM is there. */
  uuid: v.optional(v.string()),
});
export type RestoreIntent = v.InferOutput<typeof RestoreIntent>;

const FOLDER = 'restores';

/** One that is under way. */
export class RestoreLog {
  readonly #path: string;
  readonly #at = new Date().toISOString();

  private constructor(path: string) {
    this.#path = path;
  }

  /** In the directory of the snapshot. `vms`: those that are there. */
  static async begin(directory: string, vms: readonly VmInfo[]): Promise<RestoreLog> {
    const folder = join(directory, FOLDER);
    await mkdir(folder, { recursive: true, mode: 0o700 });
    await forgetGone(folder, vms);
    const log = new RestoreLog(join(folder, `${randomUUID()}.json`));
    await log.#write({});
    return log;
  }

  made(uuid: string): Promise<void> {
    return this.#write({ uuid });
  }

  async drop(): Promise<void> {
    await rm(this.#path, { force: true });
  }

  #write(intent: Pick<RestoreIntent, 'uuid'>): Promise<void> {
    return writeFileAtomic(this.#path, JSON.stringify({ at: this.#at, ...intent }));
  }
}

/** Of VMs whose making from a snapshot has not come to its end. */
export async function readRestoreIntents(directory: string): Promise<RestoreIntent[]> {
  const intents = await Promise.all((await pathsIn(join(directory, FOLDER))).map(readIntent));
  return intents.flatMap((intent) => intent ?? []);
}

/** Whether a VM is what a restore had begun to make. One whose uuid was not written down any more has nothing yet. */
export function isMadeBy({ at, uuid }: RestoreIntent, vm: VmInfo): boolean {
  if (uuid !== undefined) return uuid === vm.uuid;
  return vm.state === 'created' && vm.generation === 0 && vm.createdAt >= at && vm.spec.disks.length === 0;
}

async function readIntent(path: string): Promise<RestoreIntent | undefined> {
  const text = await readFile(path, 'utf8').catch(() => undefined);
  const read = text === undefined ? undefined : v.safeParse(v.pipe(v.string(), v.parseJson(), RestoreIntent), text);
  return read?.success === true ? read.output : undefined;
}

async function pathsIn(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch(() => []);
  return names.filter((name) => name.endsWith('.json')).map((name) => join(folder, name));
}

async function forgetGone(folder: string, vms: readonly VmInfo[]): Promise<void> {
  for (const path of await pathsIn(folder)) {
    const intent = await readIntent(path);
    const isThere = intent?.uuid !== undefined && vms.some(({ uuid }) => uuid === intent.uuid);
    // Another restore of the snapshot may be at this point.
    if (intent?.uuid !== undefined && !isThere) await rm(path, { force: true });
  }
}
