/**
 * A symmetric JSON-RPC 2.0 peer: both ends call and both ends answer. It knows nothing of sockets: the owner hands in what arrives
 * (`receive`), takes what leaves (`send`) and says when the line is gone (`close`).
 *
 *     open ──close──► closed        calls pending here are rejected with INTERRUPTED, requests running here are aborted
 *
 * Upper half: `call`, `notify`. Bottom half: `receive`, `close`; these never throw. What breaks the protocol goes to
 * `onProtocolError`, whose owner closes the line; the peer itself goes on until it is told to close.
 */
import { type Clock, systemClock } from '../clock.ts';
import { Deadlines } from '../deadlines.ts';
import { FairleadError, type JsonObject, toFairleadError } from '../errors.ts';
import { exceedsBytes, type Message, type RequestId, readMessage, writeNotification } from './envelope.ts';
import { IncomingRequests } from './incoming.ts';
import { OutgoingCalls } from './outgoing.ts';
import { type CallOptions, DEFAULT_PEER_LIMITS, type PeerLimits, type PeerOptions, type PeerStats } from './types.ts';
import { fromWireError } from './wire-error.ts';

export class JsonRpcPeer {
  readonly stats: PeerStats = { lateResponses: 0, unknownResponses: 0 };
  readonly #options: PeerOptions;
  readonly #limits: PeerLimits;
  readonly #outgoing: OutgoingCalls;
  readonly #incoming: IncomingRequests;
  readonly #deadlines: Deadlines;
  #closed = false;

  constructor(options: PeerOptions) {
    this.#options = options;
    this.#limits = { ...DEFAULT_PEER_LIMITS, ...options.limits };
    const clock: Clock = options.clock ?? systemClock;
    this.#deadlines = new Deadlines(clock);
    const common = { send: options.send, clock, deadlines: this.#deadlines, limits: this.#limits };
    this.#outgoing = new OutgoingCalls({ ...common, stats: this.stats });
    this.#incoming = new IncomingRequests({
      ...common,
      sendProgress: options.sendProgress ?? options.send,
      onRequest: options.onRequest,
      onHandlerFault: (error, method) => options.onHandlerFault?.(error, method),
      onProtocolError: (error) => this.#fail(error),
    });
  }

  /** Calls of ours that await an answer. */
  get pendingCount(): number {
    return this.#outgoing.size;
  }

  /** Requests of the other side whose handlers run here. */
  get inFlightCount(): number {
    return this.#incoming.size;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /**
   * Call a method of the other side; `params` is any object that JSON can say. Rejects with a FairleadError: what the other side answered, TIMEOUT, CANCELLED (or the signal's
   * own FairleadError), INTERRUPTED when the line dropped; CONNECT_FAILED, LIMIT_EXCEEDED or INVALID_PARAMS when it was not sent.
   */
  call(method: string, params: object, options: CallOptions = {}): Promise<unknown> {
    return this.#outgoing.call(method, params, options);
  }

  /** Tell the other side something that needs no answer; dropped when closed. Throws LIMIT_EXCEEDED for one that is too long. */
  notify(method: string, params: object): void {
    if (this.#closed) return;
    const text = writeNotification(method, params);
    if (exceedsBytes(text, this.#limits.maxMessageBytes)) {
      throw new FairleadError('LIMIT_EXCEEDED', `notification ${method} is longer than ${this.#limits.maxMessageBytes} bytes`);
    }
    this.#options.send(text);
  }

  receive(text: string): void {
    if (this.#closed) return;
    const message = readMessage(text, this.#limits.maxMessageBytes);
    switch (message.kind) {
      case 'request':
        return this.#incoming.start(message);
      case 'notification':
        return this.#onNotification(message.method, message.params);
      case 'result':
        return this.#outgoing.settleResult(message.id, message.result);
      case 'error':
        if (message.id !== null) return this.#outgoing.settleError(message.id, message.error);
        return this.#fail(
          new FairleadError('PROTOCOL_ERROR', `the peer could not read a message: ${fromWireError(message.error).message}`),
        );
      case 'invalid':
        return this.#onInvalid(message);
    }
  }

  /** Idempotent; the first error is the one that callers see. */
  close(error: FairleadError): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#outgoing.close(error);
    this.#incoming.close(error);
    this.#deadlines.stop();
  }

  #onInvalid(message: Extract<Message, { kind: 'invalid' }>): void {
    if (message.request !== undefined) return this.#incoming.refuse(message.request, message.error);
    if (message.response !== undefined) this.#outgoing.settleBroken(message.response, message.error);
    this.#fail(message.error);
  }

  /** Notifications of the protocol itself start with `$/`; those that this version does not know are ignored (LSP 3.17 does the same). */
  #onNotification(method: string, params: JsonObject): void {
    const { id, token, value } = params;
    if (method === '$/cancelRequest' && isId(id)) return this.#incoming.cancel(id);
    if (method === '$/progress' && isId(token)) return this.#outgoing.progress(token, value);
    if (method.startsWith('$/')) return;
    try {
      this.#options.onNotification?.(method, params);
    } catch (error) {
      this.#fail(toFairleadError(error));
    }
  }

  #fail(error: FairleadError): void {
    this.#options.onProtocolError(error);
  }
}

function isId(value: unknown): value is RequestId {
  return typeof value === 'string' || typeof value === 'number';
}
