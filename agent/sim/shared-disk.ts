/**
 * The disk of the simulated hosts of one process. Each real host has one of its own; thousands that share one would wait for each other's
 * syncs. So all of their journals are one file, and all that is to be durable at the same time becomes so with one sync (group commit).
 *
 *     disk.log   frames as of a journal (agent/journal/frame.ts), one for each thing that was done to a file of a host
 *
 * Nothing is acknowledged before it is on that disk. What the hosts of the process hold is in memory too; at the start it is read back, and
 * written anew without what is gone.
 */
import { type FileHandle, mkdir, open, readFile, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import * as v from 'valibot';
import { FairleadError } from '../../shared/errors.ts';
import type { JournalFile, JournalFiles } from '../journal/files.ts';
import { encodeFrame, scanFrames } from '../journal/frame.ts';
import type { TextFile } from '../rpc/text-file.ts';
import { syncDirectory } from '../vm/atomic-file.ts';

const Change = v.variant('do', [
  v.strictObject({ do: v.literal('write'), file: v.string(), at: v.number(), bytes: v.string() }),
  v.strictObject({ do: v.literal('cut'), file: v.string(), at: v.number() }),
  v.strictObject({ do: v.literal('remove'), file: v.string() }),
]);
type Change = v.InferOutput<typeof Change>;

/** Bytes of a file in one change: as base64 they fit a frame. */
const MAX_WRITE_BYTES = 128 * 1024;

export class SharedDisk implements AsyncDisposable {
  readonly #log: FileHandle;
  readonly #contents: Map<string, Buffer>;
  #unwritten: Buffer[] = [];
  #syncing: Promise<void> | undefined;
  #following: Promise<void> | undefined;
  #failure: Error | undefined;

  private constructor(log: FileHandle, contents: Map<string, Buffer>) {
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
      for (const [file, content] of contents) {
        for (let at = 0; at < content.length; at += MAX_WRITE_BYTES) await log.write(frameOf(written(file, at, content)));
      }
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
    const keyOf = (name: string): string => `${host}/journal/${name}`;
    const contentOf = (name: string): Buffer => {
      const content = this.#contents.get(keyOf(name));
      if (content === undefined) throw Object.assign(new Error(`there is no ${keyOf(name)}`), { code: 'ENOENT' });
      return content;
    };
    const prefix = keyOf('');
    const fileOf = (name: string): JournalFile => ({
      write: async (bytes, position) => {
        const taken = bytes.subarray(0, MAX_WRITE_BYTES);
        this.#do(written(keyOf(name), position, Buffer.concat([Buffer.alloc(position), taken])));
        return taken.length;
      },
      truncate: async (at) => this.#do({ do: 'cut', file: keyOf(name), at }),
      datasync: () => this.#sync(),
      close: async () => {},
    });
    return {
      list: async () => [...this.#contents.keys()].flatMap((key) => (key.startsWith(prefix) ? key.slice(prefix.length) : [])),
      read: async (name) => Buffer.from(contentOf(name)),
      readAt: async (name, position, bytes) => Buffer.from(contentOf(name).subarray(position, position + bytes)),
      create: async (name) => {
        this.#do({ do: 'cut', file: keyOf(name), at: 0 });
        return fileOf(name);
      },
      open: async (name) => {
        contentOf(name);
        return fileOf(name);
      },
      remove: async (name) => this.#do({ do: 'remove', file: keyOf(name) }),
      syncNames: () => this.#sync(),
    };
  }

  textOf(host: string, name: string): TextFile {
    const file = `${host}/${name}`;
    return {
      read: async () => this.#contents.get(file)?.toString(),
      write: async (text) => {
        this.#do({ do: 'cut', file, at: 0 });
        this.#do(written(file, 0, Buffer.from(text)));
        await this.#sync();
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#syncing?.catch(() => {});
    await this.#log.close();
  }

  #do(change: Change): void {
    if (this.#failure !== undefined) throw this.#failure;
    apply(this.#contents, change);
    this.#unwritten.push(frameOf(change));
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
    // All that this turn of the event loop asks for.
    await new Promise(setImmediate);
    if (this.#failure !== undefined) throw this.#failure;
    const frames = this.#unwritten;
    this.#unwritten = [];
    try {
      if (frames.length > 0) await this.#log.appendFile(Buffer.concat(frames));
      await this.#log.datasync();
    } catch (error) {
      this.#failure = error instanceof Error ? error : new Error(String(error));
      throw this.#failure;
    }
  }
}

function written(file: string, at: number, content: Buffer): Change {
  return { do: 'write', file, at, bytes: content.subarray(at, at + MAX_WRITE_BYTES).toString('base64') };
}

function frameOf(change: Change): Buffer {
  return encodeFrame(Buffer.from(JSON.stringify(change)));
}

function apply(contents: Map<string, Buffer>, change: Change): void {
  const { file } = change;
  if (change.do === 'remove') contents.delete(file);
  else {
    const before = contents.get(file) ?? Buffer.alloc(0);
    const more = change.do === 'write' ? Buffer.from(change.bytes, 'base64') : Buffer.alloc(0);
    const parts = [
      before.subarray(0, change.at),
      more,
      before.subarray(change.do === 'write' ? change.at + more.length : before.length),
    ];
    contents.set(file, Buffer.concat(parts));
  }
}

async function contentsIn(path: string): Promise<Map<string, Buffer>> {
  const contents = new Map<string, Buffer>();
  let log: Buffer;
  try {
    log = await readFile(path);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return contents;
    throw error;
  }
  const { frames, damages } = scanFrames(log);
  const damage = damages.find(({ kind }) => kind === 'damaged');
  if (damage !== undefined) {
    const message = `the disk of simulated hosts ${path} is damaged at byte ${damage.offset}: remove its directory and begin anew`;
    throw new FairleadError('STORAGE_FAILED', message);
  }
  for (const { payload } of frames) apply(contents, v.parse(Change, JSON.parse(payload.toString())));
  return contents;
}
