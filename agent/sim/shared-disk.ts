/**
 * The disk of the simulated hosts of one process. Each real host has one of its own; thousands that share one would wait for each other's
 * syncs. So all of their journals are one file, and all that is to be durable at the same time becomes so with one sync (group commit).
 *
 *     disk.log   frames as of a journal (agent/journal/frame.ts), one for each thing that was done to a file of a host:
 *                what was done as a line of JSON, and behind it the bytes that were written
 *
 * Nothing is acknowledged before it is on that disk. What the hosts of the process hold is in memory too; at the start it is read back, and
 * written anew without what is gone.
 */
import { type FileHandle, mkdir, open, readFile, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import * as v from 'valibot';
import { FairleadError } from '../../shared/errors.ts';
import type { JournalFile, JournalFiles } from '../journal/files.ts';
import { encodeFrame, scanFrames } from '../journal/frame.ts';
import type { TextFile } from '../rpc/text-file.ts';
import { syncDirectory } from '../vm/atomic-file.ts';
import { FileContent } from './file-content.ts';

const Position = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const Change = v.variant('do', [
  v.strictObject({ do: v.literal('write'), directory: v.string(), name: v.string(), at: Position }),
  v.strictObject({ do: v.literal('cut'), directory: v.string(), name: v.string(), at: Position }),
  v.strictObject({ do: v.literal('remove'), directory: v.string(), name: v.string() }),
]);
type Change = v.InferOutput<typeof Change>;

/** By directory and name. */
type Contents = Map<string, Map<string, FileContent>>;

/** Bytes of a file in one change: with what is said of them they fit a frame. */
const MAX_WRITE_BYTES = 128 * 1024;
/** From the end of one sync to the next, for more to gather: what a sync costs does not depend on how much it is for. */
const GATHER_MS = 3;
const NOTHING = Buffer.alloc(0);
const LINE_END = '\n'.charCodeAt(0);

export class SharedDisk implements AsyncDisposable {
  readonly #log: FileHandle;
  readonly #contents: Contents;
  #unwritten: Buffer[] = [];
  #syncedAt = Number.NEGATIVE_INFINITY;
  #syncing: Promise<void> | undefined;
  #following: Promise<void> | undefined;
  #failure: Error | undefined;

  private constructor(log: FileHandle, contents: Contents) {
    this.#log = log;
    this.#contents = contents;
  }

  /** @throws FairleadError STORAGE_FAILED for one that is damaged, and what the file system throws */
  static async open(path: string): Promise<SharedDisk> {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    const contents = await contentsIn(path);
    const beside = `${path}.new`;
    const log = await open(beside, 'w', 0o600);
    try {
      for (const frame of framesOf(contents)) await log.appendFile(frame);
      await log.sync();
      await rename(beside, path);
      await syncDirectory(dirname(path));
      return new SharedDisk(log, contents);
    } catch (error) {
      await log.close();
      throw error;
    }
  }

  /** Names are the host's own. */
  filesOf(host: string): JournalFiles {
    const directory = `${host}/journal`;
    const contentOf = (name: string): FileContent => {
      const content = this.#contents.get(directory)?.get(name);
      if (content === undefined) throw Object.assign(new Error(`there is no ${directory}/${name}`), { code: 'ENOENT' });
      return content;
    };
    const fileOf = (name: string): JournalFile => ({
      write: async (bytes, at) => {
        const taken = bytes.subarray(0, MAX_WRITE_BYTES);
        this.#do({ do: 'write', directory, name, at }, taken);
        return taken.length;
      },
      truncate: async (at) => this.#do({ do: 'cut', directory, name, at }),
      datasync: () => this.#sync(),
      close: async () => {},
    });
    return {
      list: async () => [...(this.#contents.get(directory)?.keys() ?? [])],
      read: async (name) => Buffer.from(contentOf(name).bytes),
      readAt: async (name, position, bytes) => Buffer.from(contentOf(name).bytes.subarray(position, position + bytes)),
      create: async (name) => {
        this.#do({ do: 'cut', directory, name, at: 0 });
        return fileOf(name);
      },
      open: async (name) => {
        contentOf(name);
        return fileOf(name);
      },
      remove: async (name) => this.#do({ do: 'remove', directory, name }),
      syncNames: () => this.#sync(),
    };
  }

  textOf(host: string, name: string): TextFile {
    const file = { directory: host, name };
    return {
      read: async () => this.#contents.get(host)?.get(name)?.bytes.toString(),
      write: async (text) => {
        this.#do({ do: 'cut', ...file, at: 0 });
        this.#do({ do: 'write', ...file, at: 0 }, Buffer.from(text));
        await this.#sync();
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#syncing?.catch(() => {});
    await this.#log.close();
  }

  #do(change: Change, bytes: Uint8Array = NOTHING): void {
    if (this.#failure !== undefined) throw this.#failure;
    apply(this.#contents, change, bytes);
    this.#unwritten.push(frameOf(change, bytes));
  }

  /** For all that was done before; who comes while one is under way shares the next. */
  #sync(): Promise<void> {
    if (this.#syncing === undefined) {
      this.#syncing = this.#write().finally(() => {
        this.#syncing = undefined;
      });
      return this.#syncing;
    }
    this.#following ??= this.#syncing
      .catch(() => {})
      .then(() => {
        this.#following = undefined;
        return this.#sync();
      });
    return this.#following;
  }

  /** A disk that has failed takes nothing more: what was written of it cannot be known. */
  async #write(): Promise<void> {
    // All that this turn of the event loop asks for, and where one sync follows another what comes within a moment.
    const leftMs = this.#syncedAt + GATHER_MS - performance.now();
    await (leftMs > 0 ? sleep(leftMs) : nextTurn());
    if (this.#failure !== undefined) throw this.#failure;
    const frames = this.#unwritten;
    this.#unwritten = [];
    try {
      if (frames.length > 0) await this.#log.appendFile(Buffer.concat(frames));
      await this.#log.datasync();
      this.#syncedAt = performance.now();
    } catch (error) {
      this.#failure = error instanceof Error ? error : new Error(String(error));
      throw this.#failure;
    }
  }
}

/** As it takes to have all of it again. */
function* framesOf(contents: Contents): Generator<Buffer, void> {
  for (const [directory, files] of contents) {
    for (const [name, { bytes }] of files) {
      yield frameOf({ do: 'cut', directory, name, at: 0 }, NOTHING);
      for (let at = 0; at < bytes.length; at += MAX_WRITE_BYTES) {
        yield frameOf({ do: 'write', directory, name, at }, bytes.subarray(at, at + MAX_WRITE_BYTES));
      }
    }
  }
}

function frameOf(change: Change, bytes: Uint8Array): Buffer {
  return encodeFrame(Buffer.concat([Buffer.from(`${JSON.stringify(change)}\n`), bytes]));
}

function apply(contents: Contents, change: Change, bytes: Uint8Array): void {
  const { directory, name } = change;
  const files = contents.get(directory) ?? new Map<string, FileContent>();
  contents.set(directory, files);
  if (change.do === 'remove') return void files.delete(name);
  const content = files.get(name) ?? new FileContent();
  files.set(name, content);
  if (change.do === 'write') content.write(bytes, change.at);
  else content.cut(change.at);
}

/** @throws FairleadError STORAGE_FAILED */
async function contentsIn(path: string): Promise<Contents> {
  const contents: Contents = new Map();
  let log: Buffer;
  try {
    log = await readFile(path);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return contents;
    throw error;
  }
  const { frames, damages } = scanFrames(log);
  const damage = damages.find(({ kind }) => kind === 'damaged');
  if (damage !== undefined) throw unreadable(path, `is damaged at byte ${damage.offset}`);
  for (const { payload, offset } of frames) {
    const end = payload.indexOf(LINE_END);
    const change = end === -1 ? undefined : readChange(payload.toString('utf8', 0, end));
    if (change === undefined) throw unreadable(path, `is of another version at byte ${offset}`);
    apply(contents, change, payload.subarray(end + 1));
  }
  return contents;
}

function readChange(text: string): Change | undefined {
  try {
    return v.parse(Change, JSON.parse(text));
  } catch {
    return undefined;
  }
}

function unreadable(path: string, why: string): FairleadError {
  return new FairleadError('STORAGE_FAILED', `the disk of simulated hosts ${path} ${why}: remove its directory and begin anew`);
}
