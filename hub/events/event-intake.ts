/**
 * Where each host's own sequence of events has been taken over up to, so that every event of a host is in the fleet's log once: one that
 * comes again is dropped, and one that comes too early says that some between are to be asked for.
 */
import * as v from 'valibot';
import { systemClock } from '../../shared/clock.ts';
import { FairleadError } from '../../shared/errors.ts';
import { RateLimit } from '../../shared/mux/rate-limit.ts';
import { type Collection, defineCollection, type Store } from '../store/store.ts';
import type { FleetEvents, NewFleetEvent } from './fleet-events.ts';

const Cursor = v.strictObject({ epoch: v.string(), seq: v.number() });
type Cursor = v.InferOutput<typeof Cursor>;

const CURSORS = defineCollection('event_cursors', v.strictObject({ host: v.string(), ...Cursor.entries }));

/** Of one host, on their way to the disk. Beyond that they are left for later, when they are asked for. */
const MAX_UNDER_WAY = 2000;
/** Of one host, on whatever line: 4,096 VMs that all start at once tell less. */
const EVENT_RATE = { burst: 20_000, perSecond: 1000 } as const;

export type Taken = 'taken' | 'gap';
type SourcedEvent = NewFleetEvent & { readonly source: NonNullable<NewFleetEvent['source']> };

interface HostState {
  cursor: Cursor;
  underWay: number;
}

export class EventIntake {
  readonly #events: FleetEvents;
  readonly #cursors: Collection<v.InferOutput<typeof CURSORS.schema>>;
  readonly #hosts = new Map<string, HostState>();
  readonly #rates = new Map<string, RateLimit>();

  private constructor(events: FleetEvents, cursors: Collection<v.InferOutput<typeof CURSORS.schema>>) {
    this.#events = events;
    this.#cursors = cursors;
  }

  static async open(store: Store, events: FleetEvents): Promise<EventIntake> {
    const cursors = store.collection(CURSORS);
    const intake = new EventIntake(events, cursors);
    for (const { value } of await cursors.list()) {
      const { host, ...cursor } = value;
      intake.#hosts.set(host, { cursor, underWay: 0 });
    }
    return intake;
  }

  /** One event more of that host has come. @throws FairleadError LIMIT_EXCEEDED */
  requireRate(host: string): void {
    const rate = this.#rates.get(host) ?? new RateLimit(EVENT_RATE);
    this.#rates.set(host, rate);
    if (rate.take(systemClock.now())) return;
    const { burst, perSecond } = EVENT_RATE;
    throw new FairleadError('LIMIT_EXCEEDED', `the host tells of more than ${burst} events at once and ${perSecond} a second`);
  }

  /** Undefined for a host whose events were never taken. */
  cursorOf(host: string): Cursor | undefined {
    return this.#hosts.get(host)?.cursor;
  }

  /** From here on: what was before is not asked for. */
  async startAt(host: string, cursor: Cursor): Promise<void> {
    this.#hosts.set(host, { cursor, underWay: 0 });
    await this.#cursors.put(host, { host, ...cursor });
  }

  /**
   * Events of one host in their order. `gap`: some before them are missing, or too many are under way, and none was taken. Resolves when they
   * are durable. @throws FairleadError STORAGE_FAILED, and then they count as missing
   */
  async take(host: string, events: readonly SourcedEvent[]): Promise<Taken> {
    const state = this.#hosts.get(host);
    const fresh = events.filter(({ source }) => source.epoch !== state?.cursor.epoch || source.seq > state.cursor.seq);
    const [first] = fresh;
    const last = fresh.at(-1);
    if (first === undefined || last === undefined) return 'taken';
    if (state === undefined || first.source.epoch !== state.cursor.epoch || first.source.seq > state.cursor.seq + 1) return 'gap';
    if (state.underWay + fresh.length > MAX_UNDER_WAY) return 'gap';
    const before = state.cursor;
    state.cursor = { epoch: last.source.epoch, seq: last.source.seq };
    state.underWay += fresh.length;
    try {
      const kept = this.#cursors.put(host, { host, ...state.cursor });
      await Promise.all([this.#events.append(host, fresh), kept]);
      return 'taken';
    } catch (error) {
      // Those that were taken after these have failed with them.
      if (state.cursor.seq > before.seq) state.cursor = before;
      throw error;
    } finally {
      state.underWay -= fresh.length;
    }
  }

  async forget(host: string): Promise<void> {
    this.#hosts.delete(host);
    this.#rates.delete(host);
    await this.#cursors.discard(host);
  }
}
