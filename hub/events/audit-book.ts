/**
 * The audit in the store: every call with who made it and how it ended. A call that changes something is answered once its entry is
 * durable; those that only read are written together, at the latest after a second.
 */
import * as v from 'valibot';
import type { Clock, Timer } from '../../shared/clock.ts';
import type { Result } from '../../shared/protocol/methods.ts';
import { AuditEntry } from '../../shared/protocol/methods-event.ts';
import { fitting } from '../../shared/protocol/paging.ts';
import { type Housekeeping, keepTo } from '../store/housekeeping.ts';
import { defineLog, type Log, type Store } from '../store/store.ts';

const { seq: _seq, at: _at, actor: _actor, ...kept } = AuditEntry.entries;
const KeptEntry = v.strictObject(kept);
export type NewAuditEntry = v.InferOutput<typeof KeptEntry> & { readonly actor: string };

const AUDIT = defineLog('audit', KeptEntry);

const READS_WAIT_MS = 1000;
/** Reads whose entries are still to be made: a few tenths of a millisecond's worth, and what their params take. */
const MAX_UNMADE_READS = 50;
const MAX_WAITING_READS = 1000;
const PAGE = 500;

export interface AuditBookOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly maxEntries: number;
  /** What could not be written. */
  readonly onFault: (error: unknown) => void;
}

export interface AuditQuery {
  readonly since: number;
  readonly limit: number;
  readonly actor?: string | undefined;
  readonly method?: string | undefined;
  readonly host?: string | undefined;
}

export class AuditBook {
  readonly #options: AuditBookOptions;
  readonly #log: Log<v.InferOutput<typeof KeptEntry>>;
  readonly #housekeeping: Housekeeping;
  #reads: NewAuditEntry[] = [];
  #unmade: (() => NewAuditEntry)[] = [];
  #timer: Timer | undefined;

  constructor(options: AuditBookOptions) {
    this.#options = options;
    this.#log = options.store.log(AUDIT);
    this.#housekeeping = keepTo(this.#log, options.maxEntries);
  }

  /** Never rejects: that it could not be written is told to `onFault`, and the call has happened all the same. */
  async changed(entry: NewAuditEntry): Promise<void> {
    await this.#write([entry]);
  }

  /** The entry is made later, so that no caller waits for it. */
  read(make: () => NewAuditEntry): void {
    this.#timer ??= this.#options.clock.setTimeout(() => void this.flush(), READS_WAIT_MS);
    if (this.#unmade.push(make) === MAX_UNMADE_READS) setImmediate(() => this.#makeReads());
  }

  #makeReads(): void {
    const unmade = this.#unmade;
    this.#unmade = [];
    for (const make of unmade) this.#reads.push(make());
    if (this.#reads.length >= MAX_WAITING_READS) void this.flush();
  }

  /** Writes what waits. */
  async flush(): Promise<void> {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#reads.push(...this.#unmade.splice(0).map((make) => make()));
    const entries = this.#reads;
    this.#reads = [];
    await this.#write(entries);
  }

  async list({ since, limit, actor, method, host }: AuditQuery): Promise<Result<'audit.list'>> {
    await this.flush();
    const { forgotten } = await this.#log.bounds();
    const entries: Result<'audit.list'>['entries'] = [];
    let cursor = since;
    while (entries.length < limit) {
      const page = await this.#log.read({ subject: actor, after: cursor, limit: PAGE });
      if (page.length === 0) break;
      for (const { seq, subject, atMs, value } of page) {
        cursor = seq;
        if ((method !== undefined && value.method !== method) || (host !== undefined && value.host !== host)) continue;
        if (entries.push({ ...value, seq, at: new Date(atMs).toISOString(), actor: subject }) === limit) break;
      }
    }
    const fit = fitting(entries);
    const lastSeq = fit.length < entries.length ? (fit.at(-1)?.seq ?? since) : cursor;
    return { entries: [...fit], missed: Math.max(0, forgotten - since), lastSeq };
  }

  async #write(entries: readonly NewAuditEntry[]): Promise<void> {
    try {
      const byActor = Map.groupBy(entries, ({ actor }) => actor);
      const appended = [...byActor].map(([actor, own]) => this.#log.append(actor, own.map(withoutActor)));
      const last = Math.max(0, ...(await Promise.all(appended)));
      await this.#housekeeping(last);
    } catch (error) {
      this.#options.onFault(error);
    }
  }
}

function withoutActor(entry: NewAuditEntry): v.InferOutput<typeof KeptEntry> {
  const { actor: _, ...kept } = entry;
  return kept;
}
