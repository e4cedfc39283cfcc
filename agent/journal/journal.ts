/**
 * The host's journal of commands: durable before a command runs, durable again before its answer is given, kept for a day.
 *
 * In memory is a line for each command and where its record lies; the record itself is read when it is asked for. The newest revision of
 * a record counts. What is older than a day goes when its file has nothing else in it, or little enough to be written anew behind.
 *
 * Nothing is read or made before the first use, so that a journal nobody uses costs next to nothing. A journal that cannot be read or
 * written refuses commands before they run, and tries again with the next.
 */

import { timeOfCommandId } from '../../shared/command-id.ts';
import { FairleadError, toFairleadError } from '../../shared/errors.ts';
import { Operation, type OperationSummary } from '../../shared/protocol/methods-operation.ts';
import { parseWith } from '../../shared/protocol/parse-with.ts';
import type { Logger } from '../vm/api.ts';
import { compact } from './compact.ts';
import { type Entry, forgetRefused, indexRecord, summaryOf } from './entries.ts';
import { isNotThere, type JournalFiles } from './files.ts';
import type { JournalObserver } from './observer.ts';
import { type OperationPage, type OperationQuery, pageOfOperations } from './page.ts';
import type { Loss } from './recovery.ts';
import { SegmentLog } from './segment-log.ts';

export interface JournalLimits {
  /** Commands that are kept; with so many, no further one is accepted. */
  readonly maxOperations: number;
  /** Of all files; what runs when it is reached may still write how it ended. */
  readonly maxBytes: number;
  /** How long a command that has ended is kept. */
  readonly keepMs: number;
  readonly segmentBytes: number;
}

const HOUR_MS = 3_600_000;

export const JOURNAL_LIMITS: JournalLimits = {
  maxOperations: 20_000,
  maxBytes: 64 * 1024 * 1024,
  // An hour more than the day that is promised, for a clock that is set forward.
  keepMs: 25 * HOUR_MS,
  segmentBytes: 1024 * 1024,
};

/** How far the clock that a command id was made by may be from this host's. */
const CLOCK_SKEW_MS = 5 * 60_000;
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
  losses: Loss[];
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
  #compacting: Promise<void> | undefined;

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
        // Its file was compacted between the look-up and the reading.
        if (entry.place !== place && isNotThere(error)) continue;
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

  /** Commands that were accepted and have not ended, oldest first. */
  async unfinished(): Promise<OperationSummary[]> {
    const { entries } = await this.#open();
    return [...entries.values()].flatMap(({ summary }) => (summary.endedAt === undefined ? summary : []));
  }

  /**
   * Whether a command that the journal does not know, or knows as it was at `asOfMs`, may have run all the same, because records of its
   * time are lost. The time of an id that is no UUID of version 7 is not known, so it may have been any.
   */
  async mayHaveLost(id: string, asOfMs?: number): Promise<boolean> {
    const { losses } = await this.#open();
    const nowMs = this.#now();
    const madeMs = timeOfCommandId(id);
    return losses.some(({ fromMs, toMs }) => {
      if (toMs + this.#limits.keepMs < nowMs) return false;
      if (asOfMs !== undefined) return asOfMs <= toMs + CLOCK_SKEW_MS;
      return madeMs === undefined || (madeMs >= fromMs - this.#limits.keepMs && madeMs <= toMs + CLOCK_SKEW_MS);
    });
  }

  /**
   * Durable when it resolves: only then may the command run.
   * @throws FairleadError LIMIT_EXCEEDED, JOURNAL_FAILED
   */
  async accept(operation: Operation): Promise<void> {
    const opened = await this.#open();
    await this.#requireRoom(opened);
    await this.#save(opened, operation);
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
    await this.#compacting;
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
    this.#opened = { log, entries, losses: [...losses], compactedAt: log.newest, lastRevision };
    this.#expire(this.#opened);
    return this.#opened;
  }

  async #requireRoom(opened: Opened): Promise<void> {
    const { maxOperations, maxBytes } = this.#limits;
    const isFull = (): boolean => opened.entries.size >= maxOperations || opened.log.bytes >= maxBytes;
    if (!isFull()) return;
    this.#expire(opened);
    forgetRefused(opened.entries);
    this.#compactSoon(opened);
    await this.#compacting;
    if (!isFull()) return;
    const { operations, bytes } = this.usage;
    const message = `the journal of this host is full: it keeps ${operations} commands of the last day in ${bytes} bytes`;
    throw new FairleadError('LIMIT_EXCEEDED', `${message}, and may keep ${maxOperations} in ${maxBytes}: try again later`, {
      details: { operations, bytes, maxOperations, maxBytes },
    });
  }

  async #save(opened: Opened, operation: Operation): Promise<void> {
    const { log, entries } = opened;
    opened.lastRevision += 1;
    const revision = opened.lastRevision;
    const record = { at: this.#now(), kind: 'operation', revision, operation };
    const place = await log.append(Buffer.from(JSON.stringify(record)));
    entries.set(operation.id, { summary: summaryOf(operation), revision, place });
  }

  #isExpired({ summary: { endedAt } }: Entry): boolean {
    return endedAt !== undefined && Date.parse(endedAt) + this.#limits.keepMs < this.#now();
  }

  #expire(opened: Opened): void {
    for (const [id, entry] of opened.entries) if (this.#isExpired(entry)) opened.entries.delete(id);
    opened.losses = opened.losses.filter(({ toMs }) => toMs + this.#limits.keepMs >= this.#now());
  }

  /** Never rejects: what cannot be made smaller now can be later. */
  #compactSoon(opened: Opened): void {
    this.#compacting ??= compact(opened, () => this.#expire(opened))
      .catch((error: unknown) => {
        this.#options.logger.warn({ error: toFairleadError(error).message }, 'could not compact the journal');
      })
      .finally(() => {
        this.#compacting = undefined;
      });
  }
}

function failed(what: string, cause: unknown): FairleadError {
  const { code, message } = toFairleadError(cause);
  if (code === 'JOURNAL_FAILED') return toFairleadError(cause);
  return new FairleadError('JOURNAL_FAILED', `${what}: ${message}`, { cause });
}
