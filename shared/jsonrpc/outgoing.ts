/**
 * Our calls to the other side: each settles exactly once, by the first of answer, deadline, abort, close.
 *
 *     call ──► pending ──► answered        result or error of the other side
 *                 ├──────► timed out       TIMEOUT, and `$/cancelRequest` is sent
 *                 ├──────► aborted         CANCELLED or the signal's own reason, and `$/cancelRequest` is sent
 *                 └──────► interrupted     INTERRUPTED: the peer closed
 *
 * A call that was never sent says so with another code (CONNECT_FAILED, LIMIT_EXCEEDED, INVALID_PARAMS), since it can have had no
 * effect; after the other codes that is unknown.
 */
import type { Cancellation } from '../cancellation.ts';
import type { Clock } from '../clock.ts';
import type { Deadlines } from '../deadlines.ts';
import { FairleadError, isFairleadError, toFairleadError } from '../errors.ts';
import { exceedsBytes, type RequestId, writeNotification, writeRequest } from './envelope.ts';
import { MAX_TIMEOUT_MS } from './meta.ts';
import type { CallOptions, PeerLimits, PeerStats } from './types.ts';
import { fromWireError, type WireError } from './wire-error.ts';

/** Kept back from the time that the callee is told, so that its own account of a timeout is here before ours runs out. */
const MAX_ANSWER_SLACK_MS = 100;
const ANSWER_SLACK_SHARE = 0.05;

interface PendingCall {
  readonly id: string;
  readonly method: string;
  readonly onProgress: ((value: unknown) => void) | undefined;
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: FairleadError) => void;
  /** Strikes the deadline off and forgets the abort listener. */
  release(): void;
}

export interface OutgoingPort {
  readonly send: (text: string) => void;
  readonly clock: Clock;
  readonly deadlines: Deadlines;
  readonly limits: PeerLimits;
  readonly stats: PeerStats;
}

export class OutgoingCalls {
  readonly #port: OutgoingPort;
  readonly #pending = new Map<string, PendingCall>();
  #lastNumber = 0;
  #closed: FairleadError | undefined;

  constructor(port: OutgoingPort) {
    this.#port = port;
  }

  get size(): number {
    return this.#pending.size;
  }

  /** Upper half: rejects, never throws. */
  call(method: string, params: object, options: CallOptions): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const timeoutMs = options.timeoutMs ?? this.#port.limits.defaultTimeoutMs;
      this.#requireStartable(method, timeoutMs, options.signal);
      const id = this.#nextId();
      const text = this.#write(id, method, params, timeoutMs, options);
      const release = this.#arm(id, method, timeoutMs, options.signal);
      // Registered before it is sent: an answer may come while `send` runs.
      this.#pending.set(id, { id, method, onProgress: options.onProgress, resolve, reject, release });
      try {
        this.#port.send(text);
      } catch (error) {
        this.#take(id)?.reject(
          new FairleadError('CONNECT_FAILED', `could not send ${method}: ${String(error)}`, { cause: error }),
        );
      }
    });
  }

  /** Bottom half, like all below. */
  settleResult(id: RequestId, result: unknown): void {
    this.#takeAnswered(id)?.resolve(result);
  }

  settleError(id: RequestId, error: WireError): void {
    this.#takeAnswered(id)?.reject(fromWireError(error));
  }

  /** The answer to this call was unusable. */
  settleBroken(id: RequestId, error: FairleadError): void {
    this.#takeAnswered(id)?.reject(error);
  }

  progress(token: RequestId, value: unknown): void {
    const call = typeof token === 'string' ? this.#pending.get(token) : undefined;
    if (call?.onProgress === undefined) return;
    try {
      call.onProgress(value);
    } catch (error) {
      this.#giveUp(call.id, toFairleadError(error));
    }
  }

  close(error: FairleadError): void {
    this.#closed ??= error;
    const calls = [...this.#pending.values()];
    this.#pending.clear();
    for (const call of calls) {
      call.release();
      const message = `${named(call)} was interrupted and may or may not have taken effect: ${error.message}`;
      call.reject(new FairleadError('INTERRUPTED', message, { cause: error }));
    }
  }

  #requireStartable(method: string, timeoutMs: number, signal: Cancellation | undefined): void {
    if (this.#closed !== undefined) {
      throw new FairleadError('CONNECT_FAILED', `${method} was not sent: the line is closed: ${this.#closed.message}`, {
        cause: this.#closed,
      });
    }
    if (!(timeoutMs >= 0 && timeoutMs <= MAX_TIMEOUT_MS)) {
      const range = `0 (no deadline) to ${MAX_TIMEOUT_MS}`;
      throw new FairleadError('INVALID_PARAMS', `${method} was not sent: timeoutMs must be ${range}, not ${timeoutMs}`);
    }
    if (signal?.aborted === true) throw reasonOf(signal, method);
    const { maxPendingCalls } = this.#port.limits;
    if (this.#pending.size >= maxPendingCalls) {
      throw new FairleadError('LIMIT_EXCEEDED', `${method} was not sent: ${maxPendingCalls} calls await their answer already`, {
        details: { limit: 'maxPendingCalls', max: maxPendingCalls },
      });
    }
  }

  #write(id: string, method: string, params: object, timeoutMs: number, options: CallOptions): string {
    const { meta, trace, onProgress } = options;
    const _meta = {
      ...meta,
      ...trace,
      timeoutMs: timeoutForCallee(timeoutMs),
      progressToken: onProgress === undefined ? undefined : id,
    };
    const text = writeRequest(id, method, { ...params, _meta });
    const { maxMessageBytes } = this.#port.limits;
    if (!exceedsBytes(text, maxMessageBytes)) return text;
    throw new FairleadError('LIMIT_EXCEEDED', `${method} was not sent: its message is longer than ${maxMessageBytes} bytes`, {
      details: { limit: 'maxMessageBytes', max: maxMessageBytes },
    });
  }

  #arm(id: string, method: string, timeoutMs: number, signal: Cancellation | undefined): () => void {
    const onAbort = (): void => this.#giveUp(id, reasonOf(signal, `${method} (${id})`));
    signal?.addEventListener('abort', onAbort, { once: true });
    const { clock, deadlines } = this.#port;
    const deadline =
      timeoutMs === 0
        ? undefined
        : deadlines.set(clock.now() + timeoutMs, () => {
            this.#giveUp(id, new FairleadError('TIMEOUT', `${method} (${id}) had no answer within ${timeoutMs} ms`));
          });
    return () => {
      if (deadline !== undefined) deadlines.strike(deadline);
      signal?.removeEventListener('abort', onAbort);
    };
  }

  #giveUp(id: string, error: FairleadError): void {
    const call = this.#take(id);
    if (call === undefined) return;
    call.reject(error);
    try {
      this.#port.send(writeNotification('$/cancelRequest', { id }));
    } catch {
      // The call is settled; a line that does not take messages any more is told to its owner by its own close.
    }
  }

  #take(id: string): PendingCall | undefined {
    const call = this.#pending.get(id);
    if (call === undefined) return undefined;
    this.#pending.delete(id);
    call.release();
    return call;
  }

  #takeAnswered(id: RequestId): PendingCall | undefined {
    const call = typeof id === 'string' ? this.#take(id) : undefined;
    if (call === undefined) this.#port.stats[this.#wasIssued(id) ? 'lateResponses' : 'unknownResponses'] += 1;
    return call;
  }

  #nextId(): string {
    this.#lastNumber += 1;
    return idOf(this.#lastNumber);
  }

  /** Ids rise by one, so that no list of the settled ones needs to be kept. */
  #wasIssued(id: RequestId): boolean {
    const number = typeof id === 'string' ? Number(id.slice(ID_PREFIX.length)) : Number.NaN;
    return number >= 1 && number <= this.#lastNumber && id === idOf(number);
  }
}

const ID_PREFIX = 'rpc#';

function idOf(number: number): string {
  return `${ID_PREFIX}${String(number).padStart(5, '0')}`;
}

/** The remaining time as the callee is told it; 0 stays 0 (no deadline). */
export function timeoutForCallee(timeoutMs: number): number {
  if (timeoutMs === 0) return 0;
  return Math.max(1, Math.floor(timeoutMs - Math.min(MAX_ANSWER_SLACK_MS, timeoutMs * ANSWER_SLACK_SHARE)));
}

function reasonOf(signal: Cancellation | undefined, what: string): FairleadError {
  const reason: unknown = signal?.reason;
  return isFairleadError(reason)
    ? reason
    : new FairleadError('CANCELLED', `${what} was cancelled by its caller`, { cause: reason });
}

function named(call: PendingCall): string {
  return `${call.method} (${call.id})`;
}
