/**
 * The events of all VMs of this host, in order: a ring of the newest 4,096 from which a watcher goes on where it was, and live
 * followers. Sequence numbers count from 1 within the epoch of this agent process.
 */
import { randomUUID } from 'node:crypto';
import { FairleadError } from '../../shared/errors.ts';
import type { VmEvent } from '../../shared/protocol/vm.ts';
import type { EventsQuery, EventsResult, VmEvents } from './api.ts';

const CAPACITY = 4096;
const DEFAULT_LIMIT = 1000;

export class EventLog implements VmEvents {
  readonly epoch: string;
  readonly #capacity: number;
  readonly #ring: VmEvent[] = [];
  readonly #listeners = new Set<(event: VmEvent) => void>();
  #lastSeq = 0;

  constructor({ epoch = randomUUID(), capacity = CAPACITY }: { epoch?: string; capacity?: number } = {}) {
    this.epoch = epoch;
    this.#capacity = capacity;
  }

  get lastSeq(): number {
    return this.#lastSeq;
  }

  append(event: Omit<VmEvent, 'epoch' | 'seq' | 'time'>): VmEvent {
    const complete = { epoch: this.epoch, seq: ++this.#lastSeq, time: new Date().toISOString(), ...event };
    this.#ring.push(complete);
    if (this.#ring.length > this.#capacity) this.#ring.shift();
    for (const listener of this.#listeners) listener(complete);
    return complete;
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
    const oldest = this.#ring[0]?.seq ?? 0;
    const later = this.#ring.slice(Math.max(0, since + 1 - oldest));
    return vm === undefined ? later : later.filter((event) => event.vm === vm);
  }
}

function tooSlow(capacity: number): FairleadError {
  return new FairleadError(
    'LIMIT_EXCEEDED',
    `the follower of VM events fell behind by more than ${capacity} events: ask again with since`,
  );
}
