/**
 * The events of all VMs of this host, in order: a ring of the newest 4,096 from which a watcher goes on where it was, and live
 * followers. Sequence numbers rise within an epoch, which lasts for as long as the log on disk does (event-store.ts); a log without one
 * counts from 1.
 */
import { randomUUID } from 'node:crypto';
import { FairleadError } from '../../shared/errors.ts';
import type { NewVmEvent, VmEvent } from '../../shared/protocol/vm-events.ts';
import type { EventsQuery, EventsResult, VmEvents } from './api.ts';

export const EVENT_CAPACITY = 4096;
const DEFAULT_LIMIT = 1000;

/** Where the log goes on after a restart of the agent; `EventStore` is one. */
export interface EventSink {
  readonly epoch: string;
  readonly events: readonly VmEvent[];
  readonly lastSeq: number;
  append(event: VmEvent): void;
}

export interface EventLogOptions {
  readonly sink?: EventSink | undefined;
  readonly epoch?: string;
  readonly capacity?: number;
}

export class EventLog implements VmEvents {
  readonly epoch: string;
  readonly #capacity: number;
  readonly #sink: EventSink | undefined;
  readonly #ring: VmEvent[];
  readonly #listeners = new Set<(event: VmEvent) => void>();
  #lastSeq: number;

  constructor({ sink, epoch = sink?.epoch ?? randomUUID(), capacity = EVENT_CAPACITY }: EventLogOptions = {}) {
    this.epoch = epoch;
    this.#sink = sink;
    this.#capacity = capacity;
    this.#ring = sink?.events.slice(-capacity) ?? [];
    this.#lastSeq = sink?.lastSeq ?? 0;
  }

  get lastSeq(): number {
    return this.#lastSeq;
  }

  append(event: NewVmEvent): VmEvent {
    const { time = new Date().toISOString() } = event;
    const complete: VmEvent = { ...event, epoch: this.epoch, seq: ++this.#lastSeq, time };
    this.#ring.push(complete);
    if (this.#ring.length > this.#capacity) this.#ring.shift();
    // First to disk: whoever has seen it may come back and ask what followed.
    this.#sink?.append(complete);
    for (const listener of this.#listeners) listener(complete);
    return complete;
  }

  /** The newest event of a VM that is still in the log. */
  lastOf(vm: string): VmEvent | undefined {
    return this.#ring.findLast((event) => event.vm === vm);
  }

  /**
   * `missed` counts the events after `since` that have left the ring, of whichever VM. `lastSeq` is where to go on: the last of the
   * answer when there are more, else the newest of all.
   */
  query({ vm, since = 0, epoch = this.epoch, limit = DEFAULT_LIMIT }: EventsQuery): EventsResult {
    const from = epoch === this.epoch ? since : 0;
    const all = this.#after(from, vm);
    const events = all.slice(0, limit);
    const oldest = this.#ring[0]?.seq ?? this.#lastSeq + 1;
    const lastSeq = events.length < all.length ? (events.at(-1)?.seq ?? from) : this.#lastSeq;
    return { epoch: this.epoch, events, missed: Math.max(0, oldest - from - 1), lastSeq };
  }

  listen(listener: (event: VmEvent) => void): Disposable {
    // A fresh closure, so that one function listening twice is two listeners.
    const entry = (event: VmEvent): void => listener(event);
    this.#listeners.add(entry);
    return { [Symbol.dispose]: () => this.#listeners.delete(entry) };
  }

  follow({ vm, since = this.#lastSeq, signal }: Parameters<VmEvents['follow']>[0]): AsyncIterable<VmEvent> {
    return this.#follow(since, vm, signal);
  }

  async *#follow(since: number, vm: string | undefined, signal: AbortSignal): AsyncGenerator<VmEvent, void> {
    let queue = this.#after(since, vm);
    let wake = Promise.withResolvers<void>();
    using _ = this.listen((event) => {
      if (vm !== undefined && event.vm !== vm) return;
      queue.push(event);
      wake.resolve();
    });
    const onAbort = (): void => wake.resolve();
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      while (!signal.aborted) {
        if (queue.length > this.#capacity) throw tooSlow(this.#capacity);
        const batch = queue;
        queue = [];
        for (const event of batch) {
          if (signal.aborted) return;
          yield event;
        }
        if (queue.length > 0) continue;
        wake = Promise.withResolvers<void>();
        if (signal.aborted) return;
        await wake.promise;
      }
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  #after(since: number, vm: string | undefined): VmEvent[] {
    const later = this.#ring.slice(firstAfter(this.#ring, since));
    return vm === undefined ? later : later.filter((event) => event.vm === vm);
  }
}

/** Where the events after a number begin. Numbers rise, and some may be left out. */
function firstAfter(events: readonly VmEvent[], since: number): number {
  let [low, high] = [0, events.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((events[middle]?.seq ?? 0) <= since) low = middle + 1;
    else high = middle;
  }
  return low;
}

function tooSlow(capacity: number): FairleadError {
  return new FairleadError(
    'LIMIT_EXCEEDED',
    `the follower of VM events fell behind by more than ${capacity} events: ask again with since`,
  );
}
