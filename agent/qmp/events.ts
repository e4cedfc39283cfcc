/**
 * Events of a session, each listener with a queue of its own.
 *
 *     using events = client.listen({ names: ['STOP', 'RESUME'] });
 *     await client.execute('stop');
 *     const stop = await events.take({ timeoutMs: 1_000 });       // one event, or an error
 *     for await (const event of events) { … }                     // until the session ends
 *
 * QEMU sends the events of a command before its reply, so a listener made before the command has them queued when `execute` resolves.
 * A listener gets what comes after it was made; one that is made in the same turn in which the session becomes ready also gets what
 * came during the set-up.
 *
 * A reader goes on in a later turn, and so perhaps after the caller of the command. Whoever has to know first takes a handler
 * (`QmpClient.onEvent`), which is called at once.
 *
 * A slow reader never holds up commands or other listeners: beyond `capacity` the oldest event is dropped, counted in `dropped` and
 * logged. Who lives by events looks at `dropped` and asks for the state again (`query-status`) when it rose. Several readers of one
 * listener share its events; leaving a `for await` does not close the listener, its scope does.
 */
import { FairleadError, toFairleadError } from '../../shared/errors.ts';
import { listenerTimedOut } from './errors.ts';
import type { QmpEventName } from './event-names.ts';
import type { QmpEvent } from './messages.ts';
import type { QmpLogger } from './options.ts';
import { clampTimerMs } from './timer.ts';

export const DEFAULT_LISTENER_CAPACITY = 1024;

export interface ListenOptions {
  /** Only events of these names; without it, all. */
  readonly names?: readonly QmpEventName[] | undefined;
  /** Only events for which this holds. If it throws, the listener ends with what it threw. */
  readonly where?: ((event: QmpEvent) => boolean) | undefined;
  /** Events kept for a slow reader. Default 1,024. */
  readonly capacity?: number | undefined;
}

export interface TakeOptions {
  /** Without it, as long as the session lasts. */
  readonly timeoutMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface QmpListener extends AsyncIterable<QmpEvent>, Disposable {
  /** Events lost because the reader was too slow. */
  readonly dropped: number;
  /** The next event. @throws FairleadError TIMEOUT, CANCELLED, or INTERRUPTED when the session or the listener ends first. */
  take(options?: TakeOptions): Promise<QmpEvent>;
}

/** The listeners of one session. */
export class EventHub {
  readonly #monitor: string;
  readonly #logger: QmpLogger | undefined;
  readonly #listeners = new Set<Listener>();
  readonly #handlers: { readonly names: ReadonlySet<string>; readonly handle: (event: QmpEvent) => void }[] = [];
  /** What came before the owner of the session could listen; undefined once that time is over. */
  #early: QmpEvent[] | undefined = [];
  #ended = false;

  constructor(monitor: string, logger: QmpLogger | undefined) {
    this.#monitor = monitor;
    this.#logger = logger;
  }

  listen(options: ListenOptions): QmpListener {
    const listener = new Listener(options, {
      monitor: this.#monitor,
      logger: this.#logger,
      onClose: (l) => this.#listeners.delete(l),
    });
    for (const event of this.#early ?? []) listener.offer(event);
    if (this.#ended) listener.end();
    else this.#listeners.add(listener);
    return listener;
  }

  /** @throws what the handler throws at an event that has come already. */
  handle(names: readonly QmpEventName[], handle: (event: QmpEvent) => void): void {
    const handler = { names: new Set<string>(names), handle };
    for (const event of this.#early ?? []) if (handler.names.has(event.name)) handle(event);
    this.#handlers.push(handler);
  }

  /** @throws what a handler throws. */
  publish(event: QmpEvent): void {
    if (this.#early !== undefined && this.#early.length < DEFAULT_LISTENER_CAPACITY) this.#early.push(event);
    for (const { names, handle } of this.#handlers) if (names.has(event.name)) handle(event);
    for (const listener of this.#listeners) listener.offer(event);
  }

  forgetEarly(): void {
    this.#early = undefined;
  }

  /** The session is over: readers get what is queued, and then the end. */
  end(): void {
    this.#ended = true;
    for (const listener of this.#listeners) listener.end();
    this.#listeners.clear();
  }
}

interface Waiter {
  resolve(event: QmpEvent | undefined): void;
  reject(reason: FairleadError): void;
}

interface ListenerContext {
  readonly monitor: string;
  readonly logger: QmpLogger | undefined;
  readonly onClose: (listener: Listener) => void;
}

class Listener implements QmpListener {
  readonly #names: ReadonlySet<string> | undefined;
  readonly #where: ((event: QmpEvent) => boolean) | undefined;
  readonly #capacity: number;
  readonly #context: ListenerContext;
  readonly #waiters = new Set<Waiter>();
  #queue: QmpEvent[] = [];
  #dropped = 0;
  /** True from the first drop until the reader has caught up: one log line for each time that it falls behind. */
  #behind = false;
  #ended = false;
  #failure: FairleadError | undefined;

  constructor(options: ListenOptions, context: ListenerContext) {
    this.#names = options.names === undefined ? undefined : new Set(options.names);
    this.#where = options.where;
    this.#capacity = options.capacity ?? DEFAULT_LISTENER_CAPACITY;
    this.#context = context;
  }

  get dropped(): number {
    return this.#dropped;
  }

  offer(event: QmpEvent): void {
    if (this.#ended || !this.#matches(event)) return;
    const [waiter] = this.#waiters;
    if (waiter !== undefined) {
      this.#waiters.delete(waiter);
      waiter.resolve(event);
      return;
    }
    this.#queue.push(event);
    if (this.#queue.length > this.#capacity) this.#drop();
  }

  end(failure?: FairleadError): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#failure = failure;
    for (const waiter of this.#waiters) {
      if (failure === undefined) waiter.resolve(undefined);
      else waiter.reject(failure);
    }
    this.#waiters.clear();
  }

  async take(options: TakeOptions = {}): Promise<QmpEvent> {
    const event = await this.#next(options);
    if (event !== undefined) return event;
    throw new FairleadError(
      'INTERRUPTED',
      `no more ${this.#what()} on QMP socket ${this.#context.monitor}: the session or the listener ended`,
    );
  }

  [Symbol.asyncIterator](): AsyncIterator<QmpEvent, void> {
    return {
      next: async () => {
        const event = await this.#next({});
        return event === undefined ? { done: true, value: undefined } : { done: false, value: event };
      },
    };
  }

  [Symbol.dispose](): void {
    this.#queue = [];
    this.#context.onClose(this);
    this.end();
  }

  /** The next event, or undefined at the end. An event is taken from the queue only to be returned: giving up loses none. */
  async #next({ timeoutMs, signal }: TakeOptions): Promise<QmpEvent | undefined> {
    if (signal?.aborted === true) throw this.#cancelled(signal);
    const queued = this.#queue.shift();
    if (this.#queue.length === 0) this.#behind = false;
    if (queued !== undefined) return queued;
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#ended) return undefined;

    const { promise, resolve, reject } = Promise.withResolvers<QmpEvent | undefined>();
    const waiter: Waiter = { resolve, reject };
    this.#waiters.add(waiter);
    const giveUp = (error: FairleadError): void => {
      this.#waiters.delete(waiter);
      reject(error);
    };
    const onAbort = (): void => giveUp(this.#cancelled(signal));
    signal?.addEventListener('abort', onAbort, { once: true });
    const timer =
      timeoutMs === undefined ? undefined : setTimeout(() => giveUp(this.#timedOut(timeoutMs)), clampTimerMs(timeoutMs));
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    }
  }

  #matches(event: QmpEvent): boolean {
    if (this.#names !== undefined && !this.#names.has(event.name)) return false;
    if (this.#where === undefined) return true;
    try {
      return this.#where(event);
    } catch (thrown) {
      this.#context.onClose(this);
      this.end(toFairleadError(thrown));
      return false;
    }
  }

  #drop(): void {
    this.#queue.shift();
    this.#dropped++;
    if (this.#behind) return;
    this.#behind = true;
    const { logger, monitor } = this.#context;
    logger?.warn(
      { qmp: monitor, capacity: this.#capacity, listener: this.#what() },
      'a listener is too slow: dropping its oldest events',
    );
  }

  #what(): string {
    return this.#names === undefined ? 'event' : `${[...this.#names].join(' or ')} event`;
  }

  #timedOut(timeoutMs: number): FairleadError {
    return listenerTimedOut(this.#context.monitor, this.#what(), timeoutMs);
  }

  #cancelled(signal: AbortSignal | undefined): FairleadError {
    return new FairleadError('CANCELLED', `waiting for a ${this.#what()} on QMP socket ${this.#context.monitor} was cancelled`, {
      cause: signal?.reason,
    });
  }
}
