/**
 * The events of all VMs of this host, in order: 4,096 of them, from which a watcher goes on where it was, and live followers. When there
 * are more, the oldest of the VM that has the most leaves, so that a guest that makes events without end pushes out its own and nobody
 * else's. Sequence numbers rise within an epoch, which lasts for as long as the log on disk does (event-store.ts); a log without one
 * counts from 1.
 */
import { randomUUID } from 'node:crypto';
import { FairleadError } from '../../shared/errors.ts';
import type { NewVmEvent, VmEvent } from '../../shared/protocol/vm-events.ts';
import type { EventsQuery, EventsResult, VmEvents } from './api.ts';

export const EVENT_CAPACITY = 4096;

/** From the first to the last, both included. */
export type SeqRange = readonly [first: number, last: number];

const DEFAULT_LIMIT = 1000;

/** Where the log goes on after a restart of the agent; `EventStore` is one. */
export interface EventSink {
  readonly epoch: string;
  readonly events: readonly VmEvent[];
  readonly lastSeq: number;
  /** Numbers up to `lastSeq` that no event has got, as far as is known. */
  readonly unused: readonly SeqRange[];
  /** `kept` are those that the log has, the new one included. */
  append(event: VmEvent, kept: readonly VmEvent[]): void;
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
  /** By number. */
  readonly #kept: VmEvent[] = [];
  /** Of each VM, how many. */
  readonly #shares = new Map<string, number>();
  readonly #unused: readonly SeqRange[];
  readonly #listeners = new Set<(event: VmEvent) => void>();
  #lastSeq: number;

  constructor({ sink, epoch = sink?.epoch ?? randomUUID(), capacity = EVENT_CAPACITY }: EventLogOptions = {}) {
    this.epoch = epoch;
    this.#sink = sink;
    this.#capacity = capacity;
    this.#unused = sink?.unused ?? [];
    this.#lastSeq = sink?.lastSeq ?? 0;
    for (const event of sink?.events ?? []) this.#keep(event);
  }

  get lastSeq(): number {
    return this.#lastSeq;
  }

  append(event: NewVmEvent): VmEvent {
    const { time = new Date().toISOString() } = event;
    const complete: VmEvent = { ...event, epoch: this.epoch, seq: ++this.#lastSeq, time };
    this.#keep(complete);
    // First to disk: whoever has seen it may come back and ask what followed.
    this.#sink?.append(complete, this.#kept);
    for (const listener of this.#listeners) listener(complete);
    return complete;
  }

  /** Of each VM that the log tells of. */
  get vms(): readonly string[] {
    return [...this.#shares.keys()];
  }

  /** The newest event of a VM that is still in the log. */
  lastOf(vm: string): VmEvent | undefined {
    return this.#kept.findLast((event) => event.vm === vm);
  }

  /** Whether such an event was told since then (ISO 8601), as far as the log reaches back: of what is older it cannot be known. */
  mayHaveTold(vm: string, type: VmEvent['type'], since: string): boolean {
    if (this.#kept.some((event) => event.vm === vm && event.type === type && event.time >= since)) return true;
    const [oldest] = this.#kept;
    return oldest !== undefined && oldest.time > since && this.#missedSince(0) > 0;
  }

  /**
   * `missed` counts the events after `since` that have left the log, of whichever VM. `lastSeq` is where to go on: the last of the
   * answer when there are more, else the newest of all.
   */
  query({ vm, since = 0, epoch = this.epoch, limit = DEFAULT_LIMIT }: EventsQuery): EventsResult {
    const from = epoch === this.epoch ? since : 0;
    const all = this.#after(from, vm);
    const events = all.slice(0, limit);
    const lastSeq = events.length < all.length ? (events.at(-1)?.seq ?? from) : this.#lastSeq;
    return { epoch: this.epoch, events, missed: this.#missedSince(from), lastSeq };
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

  #keep(event: VmEvent): void {
    this.#kept.push(event);
    this.#shares.set(event.vm, (this.#shares.get(event.vm) ?? 0) + 1);
    if (this.#kept.length <= this.#capacity) return;
    const most = this.#shares.values().reduce((a, b) => Math.max(a, b), 0);
    const [gone] = this.#kept.splice(
      this.#kept.findIndex(({ vm }) => this.#shares.get(vm) === most),
      1,
    );
    if (gone === undefined) return;
    if (most === 1) this.#shares.delete(gone.vm);
    else this.#shares.set(gone.vm, most - 1);
  }

  #missedSince(since: number): number {
    const unused = this.#unused.reduce((sum, [first, last]) => sum + Math.max(0, last - Math.max(first, since + 1) + 1), 0);
    const kept = this.#kept.length - firstAfter(this.#kept, since);
    return Math.max(0, this.#lastSeq - since - unused - kept);
  }

  #after(since: number, vm: string | undefined): VmEvent[] {
    const later = this.#kept.slice(firstAfter(this.#kept, since));
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
