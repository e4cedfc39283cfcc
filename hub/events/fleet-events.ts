/**
 * The events of the fleet: kept in the store's log, told to whoever follows them once they are durable, forgotten from the oldest on when
 * there are more than the hub is to keep.
 *
 * The newest are held in memory as well, so that a thousand watchers cost no reads. A watcher that is further behind reads the store, and
 * one that asks for what is forgotten is told how much it missed.
 */
import * as v from 'valibot';
import { FleetEvent } from '../../shared/protocol/fleet-events.ts';
import { fitting } from '../../shared/protocol/paging.ts';
import { type Housekeeping, keepTo } from '../store/housekeeping.ts';
import { defineLog, type Log, type LogEntry, type Store } from '../store/store.ts';
import { Recent } from './recent.ts';

const { type, vm, state, data, source } = FleetEvent.entries;
const KeptEvent = v.strictObject({ type, vm, state, data, source });
/** An event before it has its place; its host goes beside it. */
export type NewFleetEvent = v.InferOutput<typeof KeptEvent>;

const EVENTS = defineLog('events', KeptEvent);

const PAGE = 500;

export interface EventFilter {
  readonly host?: string | undefined;
  readonly vm?: string | undefined;
  /** Types or their beginnings. */
  readonly types?: readonly string[] | undefined;
}

export interface EventQuery extends EventFilter {
  readonly since?: number | undefined;
  readonly limit: number;
}

export interface EventPage {
  readonly events: readonly FleetEvent[];
  /** Events after `since` that are forgotten. */
  readonly missed: number;
  /** Where to go on. */
  readonly lastSeq: number;
}

export class FleetEvents {
  readonly #log: Log<NewFleetEvent>;
  readonly #recent: Recent<FleetEvent>;
  readonly #housekeeping: Housekeeping;

  private constructor(log: Log<NewFleetEvent>, lastSeq: number, maxEvents: number) {
    this.#log = log;
    this.#recent = new Recent(lastSeq);
    this.#housekeeping = keepTo(log, maxEvents);
  }

  static async open({ store, maxEvents }: { readonly store: Store; readonly maxEvents: number }): Promise<FleetEvents> {
    const log = store.log(EVENTS);
    return new FleetEvents(log, (await log.bounds()).last, maxEvents);
  }

  get lastSeq(): number {
    return this.#recent.last;
  }

  /** Resolves once they are durable. @throws FairleadError STORAGE_FAILED */
  async append(host: string, events: readonly NewFleetEvent[]): Promise<void> {
    if (events.length === 0) return;
    const at = new Date().toISOString();
    const last = await this.#log.append(host, events);
    const first = last - events.length + 1;
    this.#recent.add(events.map((event, index) => ({ ...event, seq: first + index, at, host })));
    await this.#housekeeping(last);
  }

  async query({ since = 0, limit, ...filter }: EventQuery): Promise<EventPage> {
    const missed = this.#recent.after(since, 1) === undefined ? Math.max(0, (await this.#log.bounds()).forgotten - since) : 0;
    const events: FleetEvent[] = [];
    let cursor = since;
    while (events.length < limit) {
      const page = await this.#after(cursor);
      if (page.length === 0) break;
      for (const event of page) {
        cursor = event.seq;
        if (matches(event, filter) && events.push(event) === limit) break;
      }
    }
    const fit = fitting(events);
    return { events: fit, missed, lastSeq: fit.length < events.length ? (fit.at(-1)?.seq ?? since) : cursor };
  }

  /** Each event after `since`, past and to come, until the signal fires. */
  async *follow(since: number, filter: EventFilter, signal: AbortSignal): AsyncGenerator<FleetEvent, void> {
    for (let cursor = since; !signal.aborted; ) {
      const page = await this.#after(cursor);
      for (const event of page) {
        cursor = event.seq;
        if (signal.aborted) return;
        if (matches(event, filter)) yield event;
      }
      if (page.length === 0) await this.#recent.moreThan(cursor, signal);
    }
  }

  async #after(seq: number): Promise<readonly FleetEvent[]> {
    return this.#recent.after(seq, PAGE) ?? (await this.#log.read({ after: seq, limit: PAGE })).map(eventOf);
  }
}

function eventOf({ seq, subject, atMs, value }: LogEntry<NewFleetEvent>): FleetEvent {
  return { ...value, seq, at: new Date(atMs).toISOString(), host: subject };
}

function matches(event: FleetEvent, { host, vm, types }: EventFilter): boolean {
  if (host !== undefined && event.host !== host) return false;
  if (vm !== undefined && event.vm !== vm) return false;
  return types === undefined || types.some((wanted) => event.type.startsWith(wanted));
}
