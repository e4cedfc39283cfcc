/** Rollouts as the store keeps them: their records, and what their journals say. */
import { FairleadError } from '../../shared/errors.ts';
import type { RolloutEntry } from '../../shared/protocol/rollout-events.ts';
import type { RolloutStatus, RolloutSummary } from '../../shared/protocol/rollout-status.ts';
import { type Collection, type Log, type LogEntry, removeLatest, type Store } from '../store/store.ts';
import { replay } from './core/evolve.ts';
import type { RolloutState } from './core/state.ts';
import { figuresOf } from './core/status.ts';
import { ROLLOUT_LOG, ROLLOUTS, type RolloutRecord } from './records.ts';

/** As its journal leaves it. */
export interface ReadRollout {
  readonly state: RolloutState;
  /** Number of the last entry. */
  readonly seq: number;
}

/** The same in figures. */
interface Counted {
  readonly figures: ReturnType<typeof figuresOf>;
  readonly seq: number;
}

/** How a rollout stands, for its record. */
interface Standing {
  readonly status: RolloutStatus;
  readonly endedAtMs: number | undefined;
}

/** Rollouts whose figures are remembered: whoever waits for the end of one asks once more then, and it has two entries for each host and more. */
const MAX_COUNTED = 256;

export class RolloutBook {
  readonly log: Log<RolloutEntry>;
  readonly #records: Collection<RolloutRecord>;
  readonly #counted = new Map<string, Counted>();
  /** What is not in their records yet. The journal has it. */
  readonly #standings = new Map<string, Standing>();
  /** Those of which the store did not take it. */
  readonly #unwritten = new Set<string>();

  constructor(store: Store) {
    this.log = store.log(ROLLOUT_LOG);
    this.#records = store.collection(ROLLOUTS);
  }

  async find(id: string): Promise<RolloutRecord | undefined> {
    const stored = await this.#records.get(id);
    return stored === undefined ? undefined : this.#asItStands(stored.value);
  }

  /** @throws FairleadError NOT_FOUND */
  async record(id: string): Promise<RolloutRecord> {
    const record = await this.find(id);
    if (record === undefined) throw new FairleadError('NOT_FOUND', `there is no rollout ${id}`);
    return record;
  }

  /** Newest first. */
  async list(): Promise<RolloutRecord[]> {
    const records = (await this.#records.list()).map(({ value }) => this.#asItStands(value));
    return records.toSorted((a, b) => b.startedAtMs - a.startedAtMs);
  }

  /** Durable when it resolves, with the number of the entry. The journal comes first: a record without one could not be taken up. */
  async add(record: RolloutRecord, first: RolloutEntry): Promise<number> {
    const [seq] = await Promise.all([this.log.append(record.id, [first]), this.#records.create(record.id, record)]);
    return seq;
  }

  async read({ id, spec }: RolloutRecord): Promise<ReadRollout> {
    const entries = await this.log.read({ subject: id });
    const values = entries.map(({ value }) => value);
    const state = replay(id, spec, values);
    if (state === undefined) throw new FairleadError('NOT_FOUND', `rollout ${id} has no journal`);
    return { state, seq: entries.at(-1)?.seq ?? 0 };
  }

  /** Of one that this hub does not drive. They are as good as the journal that is read anew: nothing has come to it since. */
  async figures(record: RolloutRecord): Promise<Counted> {
    const { id } = record;
    const counted = this.#counted.get(id);
    if (counted !== undefined && (await this.entries(id, counted.seq, 1)).length === 0) return counted;
    return this.remember(id, await this.read(record));
  }

  remember(id: string, { state, seq }: ReadRollout): Counted {
    const counted = { figures: figuresOf(state), seq };
    this.#counted.delete(id);
    this.#counted.set(id, counted);
    const [oldest] = this.#counted.keys();
    if (this.#counted.size > MAX_COUNTED && oldest !== undefined) this.#counted.delete(oldest);
    return counted;
  }

  /** In order. */
  async entries(id: string, after: number, limit: number): Promise<ReadonlyArray<LogEntry<RolloutEntry>>> {
    return await this.log.read({ subject: id, after, limit });
  }

  /** Forgets rollouts that ended long ago, with their journals: all but the newest `keep` of those that have ended. */
  async prune(keep: number): Promise<void> {
    const ended = (await this.list()).filter(({ endedAtMs }) => endedAtMs !== undefined);
    for (const { id } of ended.slice(keep)) {
      await removeLatest(this.#records, id);
      await this.log.forget(id);
    }
  }

  /** For `writeStanding`. */
  noteStanding(id: string, standing: Standing): void {
    this.#standings.set(id, standing);
  }

  /** What was noted of it last, if that is not durable. @throws FairleadError STORAGE_FAILED, and then it is told all the same, and may be tried again */
  async writeStanding(id: string): Promise<void> {
    const standing = this.#standings.get(id);
    if (standing === undefined) return;
    try {
      await this.#records.modify(id, (record) => standingSo(record, standing));
    } catch (error) {
      this.#unwritten.add(id);
      throw error;
    }
    if (this.#standings.get(id) !== standing) return;
    this.#standings.delete(id);
    this.#unwritten.delete(id);
  }

  #asItStands(record: RolloutRecord): RolloutRecord {
    const standing = this.#unwritten.has(record.id) ? this.#standings.get(record.id) : undefined;
    return standing === undefined ? record : standingSo(record, standing);
  }
}

function standingSo({ id, spec, startedBy, startedAtMs, hosts }: RolloutRecord, { status, endedAtMs }: Standing): RolloutRecord {
  return { id, spec, startedBy, startedAtMs, hosts, status, ...(endedAtMs === undefined ? {} : { endedAtMs }) };
}

export function summaryOf(
  { startedAtMs, endedAtMs, spec }: RolloutRecord,
  { figures, seq }: Counted,
  blocked?: string,
): RolloutSummary {
  return {
    ...figures,
    name: spec.name,
    startedAt: new Date(startedAtMs).toISOString(),
    ...(endedAtMs === undefined ? {} : { endedAt: new Date(endedAtMs).toISOString() }),
    ...(blocked === undefined ? {} : { blocked }),
    seq,
  };
}
