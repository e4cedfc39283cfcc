/**
 * A log that somebody else writes, open for appending and never told of anything, and that is read and kept short here.
 *
 *     PATH.1   what was before        PATH   what is written now
 *     ├──── kept ─────┤├──────────── file ───────────┤
 *     begin          base                           end        positions: bytes since the beginning of what was kept when this was made
 *
 * **Rolling.** When the file is longer than `maxBytes`, its beginning becomes `PATH.1`, in place of the one before, and is then taken out of
 * the file (collapse.ts) while its writer goes on: no byte is lost or doubled, and there is no hole. An agent that is killed between the two
 * steps has left the beginning twice; the next one finds it so and does the second step alone. Where the file system cannot do it, all that is
 * there is copied and the file cut to nothing: what is written between the last read and the cut is lost, and that is told.
 *
 * **Reading.** A position stays good over any rolling, so a reader that is slower than the writer loses nothing as long as it is not behind
 * by more than is kept. The one lock here is between reading and rolling; neither holds up the writer.
 */
import { existsSync } from 'node:fs';
import { type FileHandle, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import { CommandQueue } from '../command-queue.ts';
import type { Logger } from '../common.ts';
import { collapseBeginning } from './collapse.ts';
import { openPlain } from './plain-file.ts';

export interface RollingLogOptions {
  readonly path: string;
  readonly logger: Logger;
  /** The file is rolled when it is longer. */
  readonly maxBytes?: number | undefined;
  /** What is taken at once; a multiple of the file system's block, and less than `maxBytes`. */
  readonly segmentBytes?: number | undefined;
}

export interface Extent {
  /** Position of the first byte that can still be read. */
  readonly begin: number;
  readonly end: number;
  /** The file was removed, and nothing will be written to it any more. */
  readonly isGone: boolean;
}

export interface LogChunk {
  /** Where the bytes stand: later than asked for when what was there is not kept any more. */
  readonly position: number;
  readonly bytes: Buffer;
}

const MAX_BYTES = 16 * 1024 ** 2;
const SEGMENT_BYTES = 8 * 1024 ** 2;
const COPY_BYTES = 256 * 1024;

export class RollingLog implements AsyncDisposable {
  readonly path: string;
  readonly #logger: Logger;
  readonly #maxBytes: number;
  readonly #segmentBytes: number;
  readonly #turn = new CommandQueue();
  #file: FileHandle | undefined;
  #base = 0;
  #keptBytes = 0;
  /** Of the file, when it was last looked at: an append-only file that is shorter was cut by somebody else. */
  #sizeBytes = 0;
  #mayBeHalfRolled = true;
  #isDisposed = false;

  constructor({ path, logger, maxBytes = MAX_BYTES, segmentBytes = SEGMENT_BYTES }: RollingLogOptions) {
    this.path = path;
    this.#logger = logger;
    this.#maxBytes = maxBytes;
    this.#segmentBytes = segmentBytes;
  }

  extent(): Promise<Extent> {
    return this.#turn.run(undefined, () => this.#look());
  }

  /** At most so many bytes from there on; none at the end. */
  read(position: number, maxBytes: number): Promise<LogChunk> {
    return this.#turn.run(undefined, async () => {
      const { begin, end } = await this.#look();
      const from = Math.min(Math.max(position, begin), end);
      if (from < this.#base) {
        await using kept = await openPlain(this.#keptPath, 'read');
        const offset = from - (this.#base - this.#keptBytes);
        return { position: from, bytes: await readAt(kept, offset, Math.min(maxBytes, this.#base - from)) };
      }
      const bytes = this.#file === undefined ? Buffer.alloc(0) : await readAt(this.#file, from - this.#base, maxBytes);
      return { position: from, bytes };
    });
  }

  /** As often as it takes for the file to be short enough. */
  roll(): Promise<void> {
    return this.#turn.run(undefined, async () => {
      while ((await this.#look()).end - this.#base > this.#maxBytes) {
        await using file = await openPlain(this.path, 'change');
        await this.#rollOnce(file);
      }
      this.#mayBeHalfRolled = false;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#turn.run(undefined, async () => {
      this.#isDisposed = true;
      await this.#file?.close();
      this.#file = undefined;
    });
  }

  get #keptPath(): string {
    return `${this.path}.1`;
  }

  async #look(): Promise<Extent> {
    this.#file ??= this.#isDisposed ? undefined : await this.#open();
    if (this.#file === undefined) return { begin: 0, end: this.#base, isGone: !existsSync(dirname(this.path)) };
    const { size, nlink } = await this.#file.stat();
    if (size < this.#sizeBytes) {
      this.#base += this.#sizeBytes;
      this.#keptBytes = 0;
    }
    this.#sizeBytes = size;
    return { begin: this.#base - this.#keptBytes, end: this.#base + size, isGone: nlink === 0 };
  }

  /** Undefined while there is no such file. */
  async #open(): Promise<FileHandle | undefined> {
    const file = await openIfThere(this.path);
    if (file === undefined) return undefined;
    await using kept = await this.#openKept();
    this.#keptBytes = kept === undefined ? 0 : (await kept.stat()).size;
    this.#base = this.#keptBytes;
    return file;
  }

  /** Undefined where there is none, or something else in its place, which the next roll replaces. */
  #openKept(): Promise<FileHandle | undefined> {
    return openPlain(this.#keptPath, 'read').catch(() => undefined);
  }

  async #rollOnce(file: FileHandle): Promise<void> {
    const segmentBytes = this.#segmentBytes;
    if (!(this.#mayBeHalfRolled && (await this.#isKept(file)))) await this.#keep(file, segmentBytes);
    if (await collapseBeginning(file, segmentBytes)) this.#moved(segmentBytes);
    else this.#moved(await this.#cutToNothing(file));
  }

  /** Gives the bytes that were kept of it. */
  async #cutToNothing(file: FileHandle): Promise<number> {
    const bytes = await this.#keep(file, Number.POSITIVE_INFINITY);
    await using kept = await openPlain(this.#keptPath, 'append');
    const rest = await readAt(file, bytes, COPY_BYTES);
    await kept.writeFile(rest);
    await file.truncate(0);
    const why = 'its file system cannot take the beginning out of a file: what was written in this very moment is lost';
    this.#logger.warn({ path: this.path }, `a log was cut, and ${why}`);
    return bytes + rest.length;
  }

  /** So much of the file's beginning has got out of it, and is all that is kept. */
  #moved(bytes: number): void {
    this.#base += bytes;
    this.#keptBytes = bytes;
    this.#sizeBytes = Math.max(0, this.#sizeBytes - bytes);
    this.#mayBeHalfRolled = false;
  }

  /** Copies the beginning, durably: after a crash of the host it is in one place at least. Gives the bytes that there were. */
  async #keep(file: FileHandle, bytes: number): Promise<number> {
    const unfinished = `${this.#keptPath}.new`;
    let copied = 0;
    {
      await using copy = await openPlain(unfinished, 'replace');
      for (;;) {
        const chunk = await readAt(file, copied, Math.min(COPY_BYTES, bytes - copied));
        if (chunk.length === 0) break;
        await copy.writeFile(chunk);
        copied += chunk.length;
      }
      await copy.datasync();
    }
    await rename(unfinished, this.#keptPath);
    return copied;
  }

  /** Whether an agent before this one has copied the beginning and not come to taking it out. */
  async #isKept(file: FileHandle): Promise<boolean> {
    await using kept = await this.#openKept();
    if (kept === undefined || (await kept.stat()).size !== this.#segmentBytes) return false;
    for (let offset = 0; offset < this.#segmentBytes; offset += COPY_BYTES) {
      const length = Math.min(COPY_BYTES, this.#segmentBytes - offset);
      const [one, other] = await Promise.all([readAt(kept, offset, length), readAt(file, offset, length)]);
      if (!one.equals(other)) return false;
    }
    return true;
  }
}

async function openIfThere(path: string): Promise<FileHandle | undefined> {
  try {
    return await openPlain(path, 'read');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  }
}

async function readAt(file: FileHandle, offset: number, length: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(Math.max(0, length));
  const { bytesRead } = await file.read(buffer, 0, buffer.length, offset);
  return buffer.subarray(0, bytesRead);
}
