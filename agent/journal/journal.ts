/**
 * The host's journal of commands: durable before a command runs, durable again before its answer is given, kept for a day.
 *
 * In memory is a line for each command and where its record lies; the record itself is read when it is asked for. The newest revision of
 * a record counts. What is older than a day goes when its file has nothing else in it, or little enough to be written anew behind. A
 * journal that is full forgets the oldest that has ended (room.ts), and knows that it did (gone.ts): no command is refused for want of
 * room unless all that fills the journal is under way.
 *
 * Nothing is read or made before the first use, so that a journal nobody uses costs next to nothing. A journal that cannot be read or
 * written refuses commands before they run, and tries again with the next.
 */

import { FairleadError, toFairleadError } from '../../shared/errors.ts';
import { Operation, type OperationSummary } from '../../shared/protocol/methods-operation.ts';
import { parseWith } from '../../shared/protocol/parse-with.ts';
import type { Logger } from '../vm/api.ts';
import { compact } from './compact.ts';
import { type Entry, entryOf, indexRecord, isAhead } from './entries.ts';
import { isNotThere, type JournalFiles } from './files.ts';
import { type Absence, type Forgotten, Gone } from './gone.ts';
import type { JournalObserver } from './observer.ts';
import { type OperationPage, type OperationQuery, pageOfOperations } from './page.ts';
import { makeRoom } from './room.ts';
import { SegmentLog } from './segment-log.ts';

export interface JournalLimits {
  /** Commands that are kept; with so many, some that have ended are forgotten before the next is accepted. */
  readonly maxOperations: number;
  /** Of all files, likewise; what runs when it is reached may still write how it ended. At least 16 times `segmentBytes`. */
  readonly maxBytes: number;
  /** How long a command that has ended is kept. */
  readonly keepMs: number;
  readonly segmentBytes: number;
}

const HOUR_MS = 3_600_000;
/** Of all commands and bytes, how much may be of commands whose id is of a time to come: they are kept for their whole day. */
const SHARE_AHEAD = 1 / 4;

export const JOURNAL_LIMITS: JournalLimits = {
  maxOperations: 20_000,
  maxBytes: 64 * 1024 * 1024,
  // An hour more than the day that is promised, for a clock that is set forward.
  keepMs: 25 * HOUR_MS,
  segmentBytes: 1024 * 1024,
};

export interface JournalOptions {
  readonly files: JournalFiles;
  readonly observer: JournalObserver;
  readonly logger: Logger;
  readonly limits?: Partial<JournalLimits> | undefined;
  /** Unix milliseconds; for tests. */
  readonly now?: (() => number) | undefined;
}

/** What is known once the files have been read. */
interface Opened {
  readonly log: SegmentLog;
  /** In the order in which they were accepted. */
  readonly entries: Map<string, Entry>;
  readonly gone: Gone;
  /** The newest file when there was last a reason to compact: the next one is a further file. */
  compactedAt: number;
  /**
   * Rises with each record of the journal and not of one command alone: an id may come again after its command was forgotten, while an
   * old record of it still lies in a file.
   */
  lastRevision: number;
}

export class Journal {
  readonly #options: JournalOptions;
  readonly #limits: JournalLimits;
  #opening: Promise<Opened> | undefined;
  #opened: Opened | undefined;
  /** Commands that are being accepted: not in the entries yet. */
  #accepting = 0;
  #makingRoom: Promise<boolean> | undefined;
  /** Settles when what makes the files smaller has ended: one at a time does that. Never rejects. */
  #shrinking: Promise<unknown> = Promise.resolve();

  constructor(options: JournalOptions) {
    this.#options = options;
    this.#limits = options.limits === undefined ? JOURNAL_LIMITS : { ...JOURNAL_LIMITS, ...options.limits };
  }

  /** Nothing before it is opened. */
  get usage(): { readonly operations: number; readonly bytes: number } {
    const { entries, log } = this.#opened ?? {};
    return { operations: entries?.size ?? 0, bytes: log?.bytes ?? 0 };
  }

  /** Reads the files, once. @throws FairleadError JOURNAL_FAILED, and tries again at the next call. */
  async open(): Promise<void> {
    await this.#open();
  }

  /** @throws FairleadError JOURNAL_FAILED when its record cannot be read. */
  async find(id: string): Promise<Operation | undefined> {
    const { entries, log } = await this.#open();
    for (;;) {
      const entry = entries.get(id);
      if (entry === undefined || this.#isExpired(entry)) return undefined;
      const { place } = entry;
      try {
        // SAFETY: what has its checksum is a record, and `operation` is parsed below.
        const value = JSON.parse((await log.read(place)).toString('utf8')) as { operation: unknown };
        const operation = parseWith(Operation, value.operation, 'operation');
        return operation.state === 'accepted' ? { ...operation, state: entry.summary.state } : operation;
      } catch (error) {
        // It was moved or forgotten between the look-up and the reading, and its file is gone.
        if (entries.get(id)?.place !== place && isNotThere(error)) continue;
        throw failed(`could not read the record of command ${id}`, error);
      }
    }
  }

  async list(query: OperationQuery): Promise<OperationPage> {
    const { entries } = await this.#open();
    const living = entries.values().filter((entry) => !this.#isExpired(entry));
    return pageOfOperations(
      living.map(({ summary }) => summary),
      query,
    );
  }

  /** Commands that were accepted and have not ended, or had not at that time (Unix milliseconds), oldest first. */
  async unfinished(atMs = Number.POSITIVE_INFINITY): Promise<OperationSummary[]> {
    const { entries } = await this.#open();
    const isUnfinished = ({ endedAt }: OperationSummary): boolean => endedAt === undefined || Date.parse(endedAt) > atMs;
    return [...entries.values()].flatMap(({ summary }) => (isUnfinished(summary) ? summary : []));
  }

  /** Why a command that the journal does not know, or knows as it was at `asOfMs`, may have run all the same; undefined when it has not. */
  async absenceOf(id: string, asOfMs?: number): Promise<Absence | undefined> {
    const { gone } = await this.#open();
    return gone.absenceOf(id, this.#now(), asOfMs);
  }

  /**
   * Durable when it resolves: only then may the command run.
   * @throws FairleadError LIMIT_EXCEEDED, JOURNAL_FAILED
   */
  async accept(operation: Operation): Promise<void> {
    const opened = await this.#open();
    if (isAhead(operation)) this.#requireRoomAhead(opened, operation.id);
    await this.#takeRoom(opened);
    try {
      await this.#save(opened, operation);
    } finally {
      this.#accepting -= 1;
    }
  }

  /** In memory alone: after a crash nobody could tell anyway whether it had begun. */
  markRunning(id: string): void {
    const entry = this.#opened?.entries.get(id);
    if (entry?.summary.state === 'accepted') entry.summary = { ...entry.summary, state: 'running' };
  }

  /** Durable when it resolves: only then may the answer be given. @throws FairleadError JOURNAL_FAILED */
  async finish(operation: Operation): Promise<void> {
    const opened = await this.#open();
    await this.#save(opened, operation);
    if (opened.log.newest === opened.compactedAt) return;
    opened.compactedAt = opened.log.newest;
    this.#compactSoon(opened);
  }

  /** Resolves when nothing is being written any more. */
  async close(): Promise<void> {
    await this.#shrinking;
  }

  #now(): number {
    return (this.#options.now ?? Date.now)();
  }

  #open(): Promise<Opened> {
    this.#opening ??= this.#recover().catch((error: unknown) => {
      this.#opening = undefined;
      throw failed('the journal of this host could not be read', error);
    });
    return this.#opening;
  }

  async #recover(): Promise<Opened> {
    const { files, observer, logger } = this.#options;
    const log = new SegmentLog({ files, observer, segmentBytes: this.#limits.segmentBytes, now: () => this.#now() });
    const { records, segments, losses } = await log.recover();
    for (const { number, tornBytes } of segments) {
      if (tornBytes === 0) continue;
      logger.warn({ segment: number, bytes: tornBytes }, 'cut the torn end of the journal: a write that nobody was told of');
      observer.tornTail(tornBytes);
    }
    for (const loss of losses) {
      logger.error(loss, 'the journal is damaged: commands of that time are answered with unknown, and none is run again');
      observer.lost(loss);
    }
    const entries = new Map<string, Entry>();
    const lastRevision = records.reduce((last, record) => Math.max(last, indexRecord(entries, record)), 0);
    const gone = new Gone(this.#limits.keepMs, losses, records);
    this.#opened = { log, entries, gone, compactedAt: log.newest, lastRevision };
    this.#expire(this.#opened);
    return this.#opened;
  }

  /** For one command that is being accepted. @throws FairleadError LIMIT_EXCEEDED, JOURNAL_FAILED */
  async #takeRoom(opened: Opened): Promise<void> {
    const { maxOperations, maxBytes } = this.#limits;
    const isFull = (): boolean => opened.entries.size + this.#accepting >= maxOperations || opened.log.bytes >= maxBytes;
    while (isFull()) {
      this.#makingRoom ??= this.#makeRoom(opened).finally(() => {
        this.#makingRoom = undefined;
      });
      if (!(await this.#makingRoom) && isFull()) throw fullOfWhatRuns({ ...this.usage, maxOperations, maxBytes });
    }
    this.#accepting += 1;
  }

  #requireRoomAhead({ entries }: Opened, id: string): void {
    const { maxOperations, maxBytes } = this.#limits;
    const others = [...entries.values()].filter((entry) => entry.isAhead && entry.summary.id !== id && !this.#isExpired(entry));
    const bytes = others.reduce((sum, { place }) => sum + place.bytes, 0);
    if (others.length < Math.ceil(maxOperations * SHARE_AHEAD) && bytes < maxBytes * SHARE_AHEAD) return;
    const message = `the journal of this host has ${others.length} commands whose ids are of a time to come, and takes no more of them: set the clock of whoever makes them, or this host's`;
    throw new FairleadError('LIMIT_EXCEEDED', message, { details: { ahead: others.length } });
  }

  /** Whether there is more than before. */
  async #makeRoom(opened: Opened): Promise<boolean> {
    const { observer, logger } = this.#options;
    const forgot = (entries: readonly Entry[], { upToMs }: Forgotten): void => {
      const actors = Object.fromEntries(
        Map.groupBy(entries, ({ summary }) => summary.actor ?? 'nobody')
          .entries()
          .map(([actor, all]) => [actor, all.length]),
      );
      logger.warn(
        { commands: entries.length, actors, upToMs },
        'the journal was full and has forgotten commands before their day was over',
      );
      observer.forgot(entries.length);
    };
    const limits = this.#limits;
    const accepting = (): number => this.#accepting;
    try {
      return await this.#alone(() => makeRoom(opened, { ...this.#clock(opened), limits, accepting, forgot }));
    } catch (error) {
      throw failed('could not make room in the journal of this host', error);
    }
  }

  async #save(opened: Opened, operation: Operation): Promise<void> {
    const { log, entries } = opened;
    opened.lastRevision += 1;
    const revision = opened.lastRevision;
    const record = { at: this.#now(), kind: 'operation', revision, operation };
    const place = await log.append(Buffer.from(JSON.stringify(record)));
    const known = entries.get(operation.id);
    const state = entryOf(operation, revision, place);
    // The same object, so that whoever moves the record sees that there is a newer one.
    if (known === undefined) entries.set(operation.id, state);
    else Object.assign(known, state);
  }

  #isExpired({ summary: { endedAt } }: Entry): boolean {
    return endedAt !== undefined && Date.parse(endedAt) + this.#limits.keepMs < this.#now();
  }

  #expire({ entries, gone }: Opened): void {
    for (const [id, entry] of entries) if (this.#isExpired(entry)) entries.delete(id);
    gone.expire(this.#now());
  }

  /** Never rejects: what cannot be made smaller now can be later. */
  #compactSoon(opened: Opened): void {
    this.#alone(() => compact(opened, this.#clock(opened))).catch((error: unknown) => {
      this.#options.logger.warn({ error: toFairleadError(error).message }, 'could not compact the journal');
    });
  }

  #clock(opened: Opened): { now: () => number; expire: () => void } {
    return { now: () => this.#now(), expire: () => this.#expire(opened) };
  }

  #alone<T>(shrink: () => Promise<T>): Promise<T> {
    const ended = this.#shrinking.then(shrink);
    this.#shrinking = ended.catch(() => {});
    return ended;
  }
}

function failed(what: string, cause: unknown): FairleadError {
  const { code, message } = toFairleadError(cause);
  if (code === 'JOURNAL_FAILED') return toFairleadError(cause);
  return new FairleadError('JOURNAL_FAILED', `${what}: ${message}`, { cause });
}

function fullOfWhatRuns(usage: { operations: number; bytes: number; maxOperations: number; maxBytes: number }): FairleadError {
  const { operations, bytes, maxOperations, maxBytes } = usage;
  const message = `the journal of this host is full of commands that are under way: ${operations} of ${maxOperations}, in ${bytes} of ${maxBytes} bytes`;
  return new FairleadError('LIMIT_EXCEEDED', `${message}: try again when some have ended`, { details: usage });
}
