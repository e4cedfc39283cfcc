/**
 * The other side's calls to us: each gets exactly one response, whatever happens to it, unless the peer closes first.
 *
 *     request ──► refused                                  too many, malformed `_meta`, expired on the way: answered, not run
 *        └──────► running ──► answered                     the handler returned or threw
 *                    └──────► aborted ──► answered         cancelled, deadline, close: `signal` fires; the handler still decides
 *
 * An aborted request keeps its place until its handler has settled, so that `maxConcurrentRequests` bounds what really runs.
 */
import { type Cancellation, CancelSource } from '../cancellation.ts';
import type { Clock } from '../clock.ts';
import type { Deadlines } from '../deadlines.ts';
import { FairleadError, isFairleadError, type JsonObject, toFairleadError } from '../errors.ts';
import { exceedsBytes, type Request, type RequestId, writeError, writeNotification, writeResult } from './envelope.ts';
import { type CallMeta, splitMeta } from './meta.ts';
import type { PeerLimits, PeerOptions, RequestContext } from './types.ts';
import { toWireError } from './wire-error.ts';

export interface IncomingPort {
  readonly send: (text: string) => void;
  readonly sendProgress: (text: string) => void;
  readonly clock: Clock;
  readonly deadlines: Deadlines;
  readonly limits: PeerLimits;
  readonly onRequest: PeerOptions['onRequest'];
  readonly onHandlerFault: (error: FairleadError, method: string) => void;
  /** Something after which the line cannot go on. */
  readonly onProtocolError: (error: FairleadError) => void;
}

export class IncomingRequests {
  readonly #port: IncomingPort;
  readonly #running = new Map<RequestId, CancelSource>();
  #closed = false;

  constructor(port: IncomingPort) {
    this.#port = port;
  }

  get size(): number {
    return this.#running.size;
  }

  /** Bottom half, like all of this class: never throws. */
  start(request: Request): void {
    const { id, method } = request;
    if (this.#running.has(id)) {
      this.#port.onProtocolError(
        new FairleadError('PROTOCOL_ERROR', `request id ${id} of ${method} is in use by a running request`),
      );
      return;
    }
    try {
      this.#requirePlace(method);
      const { params, meta } = splitMeta(request.params);
      const deadlineMs = this.#deadlineOf(method, meta);
      void this.#run(request, params, meta, deadlineMs);
    } catch (error) {
      this.#answerError(id, toFairleadError(error));
    }
  }

  cancel(id: RequestId): void {
    this.#running.get(id)?.abort(new FairleadError('CANCELLED', `request ${id} was cancelled by its caller`));
  }

  close(error: FairleadError): void {
    this.#closed = true;
    const reason = new FairleadError('INTERRUPTED', `the caller's line closed: ${error.message}`, { cause: error });
    for (const source of this.#running.values()) source.abort(reason);
  }

  /** Answers a request that could not be read well enough to start. */
  refuse(id: RequestId, error: FairleadError): void {
    this.#answerError(id, error);
  }

  #requirePlace(method: string): void {
    const { maxConcurrentRequests } = this.#port.limits;
    if (this.#running.size < maxConcurrentRequests) return;
    throw new FairleadError(
      'LIMIT_EXCEEDED',
      `${method} was not run: ${maxConcurrentRequests} requests of this line run already`,
      {
        details: { limit: 'maxConcurrentRequests', max: maxConcurrentRequests },
      },
    );
  }

  /** When the request has to end, on our clock; undefined for never. */
  #deadlineOf(method: string, meta: CallMeta): number | undefined {
    const timeoutMs = meta.timeoutMs ?? this.#port.limits.defaultTimeoutMs;
    if (timeoutMs < 0) throw new FairleadError('TIMEOUT', `${method} was not run: its deadline had passed when it came`);
    return timeoutMs === 0 ? undefined : this.#port.clock.now() + timeoutMs;
  }

  async #run(request: Request, params: JsonObject, meta: CallMeta, deadlineMs: number | undefined): Promise<void> {
    const { id, method } = request;
    const source = new CancelSource();
    this.#running.set(id, source);
    const { deadlines } = this.#port;
    const deadline =
      deadlineMs === undefined
        ? undefined
        : deadlines.set(deadlineMs, () => {
            source.abort(new FairleadError('TIMEOUT', `${method} did not end within its deadline`));
          });
    try {
      const result = await this.#port.onRequest(method, params, this.#contextOf(request, meta, deadlineMs, source));
      this.#answer(id, this.#writeBounded(method, writeResult(id, result)));
    } catch (error) {
      this.#answerError(id, this.#explain(error, method, source));
    } finally {
      if (deadline !== undefined) deadlines.strike(deadline);
      this.#running.delete(id);
    }
  }

  #contextOf(request: Request, meta: CallMeta, deadlineMs: number | undefined, source: CancelSource): RequestContext {
    const { id, method } = request;
    const { clock } = this.#port;
    return {
      id,
      method,
      cancellation: source,
      // Not a getter: V8 makes a dictionary of an object literal that has one, which costs more than the signal does.
      signal: source.signal,
      remainingMs: () => (deadlineMs === undefined ? undefined : Math.max(0, deadlineMs - clock.now())),
      wantsProgress: meta.progressToken !== undefined,
      progress: (value) => this.#progress(request, meta, source, value),
      trace: meta.trace,
      meta: meta.rest,
    };
  }

  #progress({ id, method }: Request, meta: CallMeta, source: CancelSource, value: unknown): void {
    const { progressToken: token } = meta;
    if (token === undefined || source.aborted || this.#running.get(id) !== source) return;
    try {
      this.#port.sendProgress(this.#writeBounded(`progress of ${method}`, writeNotification('$/progress', { token, value })));
    } catch (error) {
      source.abort(toFairleadError(error));
    }
  }

  #writeBounded(what: string, text: string): string {
    const { maxMessageBytes } = this.#port.limits;
    if (!exceedsBytes(text, maxMessageBytes)) return text;
    throw new FairleadError('LIMIT_EXCEEDED', `the answer of ${what} is longer than the ${maxMessageBytes} bytes of a message`, {
      details: { limit: 'maxMessageBytes', max: maxMessageBytes },
    });
  }

  /** The error that the caller gets for what a handler threw; a fault of ours is reported here as well, where it can be mended. */
  #explain(thrown: unknown, method: string, cancellation: Cancellation): FairleadError {
    if (isFairleadError(thrown) && thrown.code !== 'INTERNAL') return thrown;
    // What Node's own functions throw when their signal fires (an AbortError) says less than the signal's reason.
    if (!isFairleadError(thrown) && cancellation.aborted && isFairleadError(cancellation.reason)) return cancellation.reason;
    const error = isFairleadError(thrown)
      ? thrown
      : new FairleadError('INTERNAL', `${method} failed inside Fairlead: ${toFairleadError(thrown).message}`, { cause: thrown });
    this.#port.onHandlerFault(error, method);
    return error;
  }

  #answerError(id: RequestId, error: FairleadError): void {
    const wire = toWireError(error);
    try {
      this.#answer(id, this.#writeBounded('an error', writeError(id, wire)));
    } catch {
      // The details are too long or no JSON: code and message are what the caller needs most.
      this.#answer(id, writeError(id, { ...wire, data: { code: error.code, retryable: error.retryable } }));
    }
  }

  #answer(id: RequestId, text: string): void {
    if (this.#closed) return;
    try {
      this.#port.send(text);
    } catch (error) {
      this.#port.onProtocolError(
        new FairleadError('INTERRUPTED', `could not send the answer to ${id}: ${String(error)}`, { cause: error }),
      );
    }
  }
}
