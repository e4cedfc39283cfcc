/**
 * JSON-RPC by POST, for scripts: one request object in, one response object out, the HTTP status taken from the error table.
 *
 * A POST is a peer that lives for one message, so that deadlines, `_meta`, limits and errors are the very same as on a WebSocket. When
 * the caller hangs up, the call is cancelled. Progress has no way back and is not asked for.
 */
import { FairleadError } from '../../shared/errors.ts';
import { readMessage, writeError } from '../../shared/jsonrpc/envelope.ts';
import { JsonRpcPeer } from '../../shared/jsonrpc/peer.ts';
import type { RequestContext } from '../../shared/jsonrpc/types.ts';
import { fromWireError, toWireError } from '../../shared/jsonrpc/wire-error.ts';
import { ERROR_TABLE } from '../../shared/protocol/error-table.ts';
import type { Principal } from '../auth/principal.ts';
import { type HandshakeRefused, refusalHeaders, toRefusal } from '../auth/refused.ts';
import type { Dispatcher } from '../rpc/dispatcher.ts';

export interface PostedCall {
  readonly authorization: string | undefined;
  readonly origin: string | undefined;
  readonly address: string;
  readonly text: string;
  /** Aborted when the caller hangs up. */
  readonly signal: AbortSignal;
  readonly onAuthenticated: () => void;
}

export interface HttpAnswer {
  readonly status: number;
  readonly body: string;
  readonly headers: Record<string, string>;
}

export interface RpcPostOptions {
  readonly dispatcher: Dispatcher;
  authenticate(call: { authorization: string | undefined; origin: string | undefined; address: string }): Promise<Principal>;
  readonly onRefused: (refusal: HandshakeRefused) => void;
  readonly onFault: (error: FairleadError, method: string) => void;
}

export class RpcPost {
  readonly #options: RpcPostOptions;
  /** Ends each call that runs, with the token that it was made with. */
  readonly #running = new Map<(error: FairleadError) => void, string>();

  constructor(options: RpcPostOptions) {
    this.#options = options;
  }

  /** Never rejects. */
  async answer(call: PostedCall): Promise<HttpAnswer> {
    let principal: Principal;
    try {
      principal = await this.#options.authenticate(call);
    } catch (thrown) {
      const refusal = toRefusal(thrown);
      this.#options.onRefused(refusal);
      return { status: refusal.status, body: writeError(null, toWireError(refusal)), headers: refusalHeaders(refusal) };
    }
    call.onAuthenticated();
    return await this.#run(call, principal);
  }

  /** Ends the calls of a token that is worthless now. */
  endCallsOf(tokenId: string): void {
    const error = new FairleadError('UNAUTHENTICATED', `token ${tokenId} was revoked while it was in use`);
    for (const [end, of] of this.#running) if (of === tokenId) end(error);
  }

  async #run(call: PostedCall, principal: Principal): Promise<HttpAnswer> {
    const { dispatcher, onFault } = this.#options;
    const { promise, resolve } = Promise.withResolvers<HttpAnswer>();
    const fail = (error: FairleadError) => resolve(failure(error));
    const peer = new JsonRpcPeer({
      send: (body) => resolve({ status: statusOf(body), body, headers: {} }),
      onRequest: (method, params, context) =>
        dispatcher.call(method, params, withoutProgress(context), { principal, address: call.address }),
      onNotification: () => fail(new FairleadError('INVALID_REQUEST', 'a notification has no answer; give the request an id')),
      onProtocolError: fail,
      onHandlerFault: onFault,
    });
    const end = (error: FairleadError) => {
      peer.close(error);
      fail(error);
    };
    const hangUp = () => end(new FairleadError('CANCELLED', 'the caller hung up'));
    call.signal.addEventListener('abort', hangUp, { once: true });
    if (call.signal.aborted) hangUp();
    this.#running.set(end, principal.tokenId);
    try {
      peer.receive(call.text);
      if (peer.inFlightCount === 0) fail(new FairleadError('INVALID_REQUEST', 'the body is no request; only those are answered'));
      return await promise;
    } finally {
      this.#running.delete(end);
      // Its deadlines have a timer, struck off or not.
      peer.close(new FairleadError('INTERRUPTED', 'the call has ended'));
    }
  }
}

function statusOf(body: string): number {
  const message = readMessage(body, Number.POSITIVE_INFINITY);
  return message.kind === 'error' ? ERROR_TABLE[fromWireError(message.error).code].http : 200;
}

function failure(error: FairleadError): HttpAnswer {
  return { status: ERROR_TABLE[error.code].http, body: writeError(null, toWireError(error)), headers: {} };
}

function withoutProgress(context: RequestContext): RequestContext {
  return { ...context, wantsProgress: false, progress: () => {} };
}
