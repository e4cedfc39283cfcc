/**
 * The journal's files: records appended one after another, a new file whenever one is full.
 *
 *     00000007.journal   sealed: whole, never written again; removed oldest first
 *     00000008.journal   active: appends go to its end
 *
 * Upper half (`append`) may be called at any time, any number at once. Lower half: one flush at a time takes all that wait, writes them
 * with one write and makes them durable with one fdatasync (group commit), and only then settles their promises. The file is open only
 * while there is something to write, so that a journal at rest costs no descriptor.
 *
 * After a write or sync that failed nothing is known of what the file holds beyond the last durable byte, and a later sync of the same
 * file may succeed without having written it. So the file is cut back there and left for good; the next append begins a new one.
 */
import { FairleadError } from '../../shared/errors.ts';
import type { JournalFile, JournalFiles } from './files.ts';
import { encodeFrame, frameAt } from './frame.ts';
import type { JournalObserver } from './observer.ts';
import { FORMAT, type Place, type Recovered, recover, type SegmentImage } from './recovery.ts';

export interface SegmentLogOptions {
  readonly files: JournalFiles;
  /** A file that has reached this is sealed; it can be longer by one batch. */
  readonly segmentBytes: number;
  readonly observer: JournalObserver;
  /** Unix milliseconds. */
  readonly now: () => number;
}

interface Segment {
  readonly number: number;
  /** Durable. */
  bytes: number;
}

interface Waiting {
  readonly frame: Buffer;
  readonly resolve: (place: Place) => void;
  readonly reject: (error: FairleadError) => void;
}

const MAX_BATCH_BYTES = 1024 * 1024;
const NAME = /^(?<number>\d{8})\.journal$/;

export class SegmentLog {
  readonly #options: SegmentLogOptions;
  /** Oldest first. */
  readonly #segments: Segment[] = [];
  #waiting: Waiting[] = [];
  #isFlushing = false;
  /** The last segment, while it takes appends. */
  #active: Segment | undefined;
  /** Of the active segment, while there is something to write. */
  #file: JournalFile | undefined;

  constructor(options: SegmentLogOptions) {
    this.#options = options;
  }

  /** Durable bytes of all files. */
  get bytes(): number {
    return this.#segments.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** The oldest file that takes no appends any more. */
  get oldestSealed(): Readonly<Segment> | undefined {
    const [oldest] = this.#segments;
    return oldest === this.#active ? undefined : oldest;
  }

  /** Number of the newest file; 0 before there is one. */
  get newest(): number {
    return this.#segments.at(-1)?.number ?? 0;
  }

  /** Once, before all else. @throws what the file system throws; FairleadError UNSUPPORTED for a newer format. */
  async recover(): Promise<Recovered> {
    const { files, now } = this.#options;
    const numbers = (await files.list()).flatMap((name) => NAME.exec(name)?.groups?.['number'] ?? []).sort();
    const images: SegmentImage[] = [];
    for (const number of numbers) images.push({ number: Number(number), file: await files.read(`${number}.journal`) });
    const recovered = recover(images, now());
    for (const { number, bytes } of recovered.segments) this.#segments.push({ number, bytes });
    const last = recovered.segments.at(-1);
    if (last !== undefined && last.tornBytes > 0) await this.#cut(last.number, last.bytes);
    // A file in which nothing could be read is vouched for by none after it: no record goes behind what may have been records.
    const hasLoss = recovered.losses.some(({ segment }) => segment === last?.number);
    this.#active = hasLoss ? undefined : this.#segments.at(-1);
    return recovered;
  }

  /** Resolves when it is durable. @throws FairleadError JOURNAL_FAILED when it could not be made so. */
  append(payload: Uint8Array): Promise<Place> {
    const { promise, resolve, reject } = Promise.withResolvers<Place>();
    this.#waiting.push({ frame: encodeFrame(payload), resolve, reject });
    if (!this.#isFlushing) void this.#flush();
    return promise;
  }

  /** @throws an ENOENT when the file was removed meanwhile; an Error when the record is damaged. */
  async read({ segment, offset, bytes }: Place): Promise<Buffer> {
    const stored = await this.#options.files.readAt(nameOf(segment), offset, bytes);
    const frame = frameAt(stored, 0);
    if (frame === undefined) throw new Error(`the record at ${offset} of ${nameOf(segment)} is damaged`);
    return frame.payload;
  }

  /** Durably, so that files go strictly oldest first: an older record that a later one has replaced must not come back alone. */
  async removeOldest(): Promise<void> {
    const oldest = this.oldestSealed;
    if (oldest === undefined) return;
    await this.#options.files.remove(nameOf(oldest.number));
    await this.#options.files.syncNames();
    this.#segments.shift();
  }

  /** Never rejects; ends when nothing waits and the file is closed. */
  async #flush(): Promise<void> {
    this.#isFlushing = true;
    for (;;) {
      const batch = this.#takeBatch();
      if (batch.length > 0) await this.#write(batch);
      else if (this.#file === undefined) break;
      else await this.#closeFile();
    }
    this.#isFlushing = false;
  }

  #takeBatch(): Waiting[] {
    let bytes = 0;
    const end = this.#waiting.findIndex(({ frame }, index) => {
      bytes += frame.length;
      return bytes > MAX_BATCH_BYTES && index > 0;
    });
    return this.#waiting.splice(0, end === -1 ? this.#waiting.length : end);
  }

  async #write(batch: readonly Waiting[]): Promise<void> {
    try {
      const { segment, isNew } = await this.#writable();
      let offset = segment.bytes;
      const places = batch.map(({ frame }) => {
        const place = { segment: segment.number, offset, bytes: frame.length };
        offset += frame.length;
        return place;
      });
      await this.#writeDurably(Buffer.concat(batch.map(({ frame }) => frame)), segment.bytes, batch.length);
      if (isNew) await this.#begun(segment);
      segment.bytes = offset;
      for (const [index, { resolve }] of batch.entries()) {
        // SAFETY: one place for each of the batch.
        resolve(places[index] as Place);
      }
    } catch (error) {
      await this.#abandon();
      const failure = journalFailed(error);
      this.#options.observer.writeFailed(failure);
      for (const { reject } of batch) reject(failure);
    }
  }

  /** The segment that takes the next record, with its file open. A new one has its first record written, but not durably yet. */
  async #writable(): Promise<{ segment: Segment; isNew: boolean }> {
    const { files, segmentBytes } = this.#options;
    const active = this.#active;
    if (active !== undefined && active.bytes < segmentBytes) {
      this.#file ??= await files.open(nameOf(active.number));
      return { segment: active, isNew: false };
    }
    await this.#closeFile();
    this.#active = undefined;
    const previous = this.#segments.at(-1);
    const number = (previous?.number ?? 0) + 1;
    this.#file = await files.create(nameOf(number));
    const header = { at: this.#options.now(), kind: 'segment', format: FORMAT, number, previousBytes: previous?.bytes ?? null };
    const frame = encodeFrame(Buffer.from(JSON.stringify(header)));
    await writeAll(this.#file, frame, 0);
    return { segment: { number, bytes: frame.length }, isNew: true };
  }

  async #writeDurably(bytes: Buffer, position: number, records: number): Promise<void> {
    const file = this.#file;
    if (file === undefined) throw new Error('the journal has no file open');
    await writeAll(file, bytes, position);
    const startedAt = performance.now();
    await file.datasync();
    this.#options.observer.synced({ records, bytes: bytes.length, durationMs: performance.now() - startedAt });
  }

  async #begun(segment: Segment): Promise<void> {
    await this.#options.files.syncNames();
    this.#segments.push(segment);
    this.#active = segment;
  }

  async #abandon(): Promise<void> {
    const segment = this.#active;
    this.#active = undefined;
    try {
      // One that has just been made counts for nothing: the next attempt makes it anew.
      await this.#file?.truncate(segment?.bytes ?? 0);
    } catch {
      // The next segment says how much of this one counts.
    }
    await this.#closeFile();
  }

  async #closeFile(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    try {
      await file?.close();
    } catch {
      // What was to be durable has been synced before.
    }
  }

  async #cut(number: number, bytes: number): Promise<void> {
    const file = await this.#options.files.open(nameOf(number));
    try {
      await file.truncate(bytes);
      await file.datasync();
    } finally {
      await file.close();
    }
  }
}

function nameOf(number: number): string {
  return `${String(number).padStart(8, '0')}.journal`;
}

/** A write may take less than it was given. */
async function writeAll(file: JournalFile, bytes: Buffer, position: number): Promise<void> {
  let done = 0;
  while (done < bytes.length) {
    const written = await file.write(bytes.subarray(done), position + done);
    if (written === 0) throw new Error('the file takes no more bytes');
    done += written;
  }
}

function journalFailed(cause: unknown): FairleadError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new FairleadError('JOURNAL_FAILED', `the command could not be written to the journal of this host: ${why}`, { cause });
}
