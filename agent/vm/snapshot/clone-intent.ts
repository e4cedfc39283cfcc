/**
 * What a making of clones has come to, kept on disk beside the snapshot, so that an agent that dies in the middle leaves neither a clone
 * that nobody asked for nor a doubt about what was made:
 *
 *     begun ──▶ names ──▶ the uuid of each, as it is made ──▶ finished, with the answer ── a day later ──▶ forgotten
 *                 └── failed: removed                └── the agent died: the next one deletes the clones, and removes it
 */
import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { toFairleadError } from '../../../shared/errors.ts';
import { Name, Timestamp } from '../../../shared/protocol/common.ts';
import { SNAPSHOT_METHODS } from '../../../shared/protocol/methods-snapshot.ts';
import type { VmInfo } from '../../../shared/protocol/vm.ts';
import type { Logger, Vms } from '../api.ts';
import { writeFileAtomic } from '../atomic-file.ts';

const Answer = v.omit(SNAPSHOT_METHODS['vm.clone'].result, ['vms']);
const CloneIntent = v.strictObject({
  at: Timestamp,
  names: v.array(Name),
  /** By name, of those that are there. */
  made: v.record(Name, v.string()),
  /** Absent until all of them run. */
  answer: v.optional(Answer),
});
export type CloneIntent = v.InferOutput<typeof CloneIntent>;

const FOLDER = 'clones';
/** As long as the answer of a command is kept. */
const KEPT_MS = 24 * 60 * 60 * 1000;

/** One that is under way. */
export class CloneLog {
  readonly #path: string;
  #intent: CloneIntent;
  /** One write after another. */
  #written: Promise<void> = Promise.resolve();

  private constructor(path: string, intent: CloneIntent) {
    this.#path = path;
    this.#intent = intent;
  }

  /** In the directory of the snapshot. */
  static async begin(directory: string, names: readonly string[]): Promise<CloneLog> {
    const folder = join(directory, FOLDER);
    await mkdir(folder, { recursive: true, mode: 0o700 });
    await forgetOld(folder);
    const at = new Date();
    const log = new CloneLog(join(folder, `${at.getTime()}-${names[0] ?? ''}.json`), {
      at: at.toISOString(),
      names: [...names],
      made: {},
    });
    await log.#change({});
    return log;
  }

  made(name: string, uuid: string): Promise<void> {
    return this.#change({ made: { ...this.#intent.made, [name]: uuid } });
  }

  finished(answer: v.InferOutput<typeof Answer>): Promise<void> {
    return this.#change({ answer });
  }

  async drop(): Promise<void> {
    await this.#written.catch(() => {});
    await rm(this.#path, { force: true });
  }

  #change(change: Partial<CloneIntent>): Promise<void> {
    this.#intent = { ...this.#intent, ...change };
    const text = JSON.stringify(this.#intent);
    this.#written = this.#written.then(() => writeFileAtomic(this.#path, text));
    return this.#written;
  }
}

/** What was made from a snapshot in the last day, and what is being made. */
export async function readCloneIntents(directory: string): Promise<CloneIntent[]> {
  const folder = join(directory, FOLDER);
  const intents = await Promise.all((await namesIn(folder)).map((name) => readIntent(join(folder, name))));
  return intents.flatMap((intent) => intent ?? []);
}

/**
 * Deletes the clones that an agent had begun to make when it died: all of them are made or none is. What cannot be deleted now is left to
 * the next agent. Gives back what it has undone; never rejects.
 */
export async function undoClones(vms: Vms, directory: string, logger: Logger): Promise<CloneIntent[]> {
  const folder = join(directory, FOLDER);
  const undone: CloneIntent[] = [];
  for (const name of await namesIn(folder)) {
    const path = join(folder, name);
    const intent = await readIntent(path);
    if (intent?.answer !== undefined) continue;
    try {
      for (const vm of vms.list()) if (intent !== undefined && isOf(intent, vm)) await vms.delete(vm.name, { force: true });
      await rm(path, { force: true });
      if (intent === undefined) continue;
      undone.push(intent);
      logger.info({ vms: intent.names }, 'clones that were not all made were removed');
    } catch (error) {
      logger.error(
        { vms: intent?.names, error: toFairleadError(error).message },
        'clones that were not all made could not be removed',
      );
    }
  }
  return undone;
}

/** One whose uuid was not written down any more has nothing yet, and was not there when the clones were begun. */
function isOf({ names, made, at }: CloneIntent, vm: VmInfo): boolean {
  const uuid = made[vm.name];
  if (uuid !== undefined) return uuid === vm.uuid;
  return (
    names.includes(vm.name) && vm.state === 'created' && vm.generation === 0 && vm.createdAt >= at && vm.spec.disks.length === 0
  );
}

async function readIntent(path: string): Promise<CloneIntent | undefined> {
  const text = await readFile(path, 'utf8').catch(() => undefined);
  const read = text === undefined ? undefined : v.safeParse(v.pipe(v.string(), v.parseJson(), CloneIntent), text);
  return read?.success === true ? read.output : undefined;
}

async function namesIn(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch(() => []);
  return names.filter((name) => name.endsWith('.json'));
}

async function forgetOld(folder: string): Promise<void> {
  for (const name of await namesIn(folder)) {
    if (Date.now() - Number(name.split('-')[0]) > KEPT_MS) await rm(join(folder, name), { force: true });
  }
}
