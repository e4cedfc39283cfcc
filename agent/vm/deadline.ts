/**
 * The limits of one call as one signal: it fires when the caller gives up (reason: CANCELLED) or when the time is over (reason: TIMEOUT).
 * Disposing lets go of the timer and the caller's signal.
 */
import type { Cancellation } from '../../shared/cancellation.ts';
import { FairleadError, isFairleadError, toFairleadError } from '../../shared/errors.ts';
import type { CallOptions } from './common.ts';

/** The longest delay of a timer (2^31 − 1 ms); Node fires a longer one at once. */
export const MAX_TIMER_MS = 2_147_483_647;

export class Deadline implements Disposable {
  readonly #what: string;
  readonly #controller = new AbortController();
  readonly #caller: Cancellation | undefined;
  readonly #timer: NodeJS.Timeout | undefined;
  readonly #endsAt: number;

  /** `what` begins the message, as in "starting VM web". */
  constructor(what: string, { timeoutMs = Number.POSITIVE_INFINITY, signal }: CallOptions) {
    this.#what = what;
    this.#caller = signal;
    this.#endsAt = performance.now() + timeoutMs;
    if (signal?.aborted === true) this.#onCancel();
    else signal?.addEventListener('abort', this.#onCancel, { once: true });
    if (Number.isFinite(timeoutMs)) {
      const expire = () => this.#end(new FairleadError('TIMEOUT', `${what} did not end within ${Math.round(timeoutMs)} ms`));
      this.#timer = setTimeout(expire, Math.min(timeoutMs, MAX_TIMER_MS));
    }
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Never negative; Infinity without a limit. */
  get remainingMs(): number {
    return Math.max(0, this.#endsAt - performance.now());
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#caller?.removeEventListener('abort', this.#onCancel);
  }

  /** The caller's own deadline comes as its signal, and now and then before ours. */
  readonly #onCancel = (): void => {
    const cause: unknown = this.#caller?.reason;
    const isLate = isFairleadError(cause) && cause.code === 'TIMEOUT';
    const what = isLate ? 'did not end within its deadline' : 'was cancelled';
    this.#end(new FairleadError(isLate ? 'TIMEOUT' : 'CANCELLED', `${this.#what} ${what}`, { cause }));
  };

  #end(reason: FairleadError): void {
    this.#controller.abort(reason);
  }
}

/** For a command whose caller names none. */
export const COMMAND_TIMEOUT_MS = 30_000;

export async function withDeadline<T>(
  what: string,
  { timeoutMs = COMMAND_TIMEOUT_MS, signal }: CallOptions,
  run: (deadline: Deadline) => Promise<T>,
): Promise<T> {
  using deadline = new Deadline(what, { timeoutMs, signal });
  return await run(deadline);
}

/** The promise, or the signal's reason as soon as it fires. The promise goes on; its rejection is then nobody's and is dropped. */
export async function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  if (signal.aborted) {
    promise.catch(() => {});
    throw signal.reason;
  }
  const aborted = Promise.withResolvers<never>();
  const onAbort = (): void => aborted.reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

/** True when the promise settled within the time. Never rejects. */
export async function settledWithin(promise: Promise<unknown>, timeoutMs: number): Promise<boolean> {
  const { promise: late, resolve } = Promise.withResolvers<boolean>();
  const timer = setTimeout(resolve, Math.min(timeoutMs, MAX_TIMER_MS), false);
  try {
    return await Promise.race([
      promise.then(
        () => true,
        () => true,
      ),
      late,
    ]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * All of them, like Promise.all, but it waits for every one before it throws the first failure: what one of them makes late is known to
 * whoever undoes it.
 */
export async function settleAll<const T extends readonly unknown[]>(
  steps: T,
): Promise<{ -readonly [I in keyof T]: Awaited<T[I]> }> {
  const results = await Promise.allSettled(steps);
  const failed = results.find((result) => result.status === 'rejected');
  if (failed !== undefined) throw toFairleadError(failed.reason);
  return Promise.all(steps);
}
