/**
 * The line: a WebSocket that carries JSON-RPC as text and the mux as binary messages, between two peers that are alike but for who
 * dialled.
 *
 *   greeting ──the other side's HELLO──▶ up ──close(), a violation, silence, the socket's end──▶ closing ──▶ closed
 *       └───────no HELLO in time, close(), …───────────────────────────────────────────────────────┘
 *
 * On leaving `greeting` or `up`, at once: every pending call is rejected with INTERRUPTED, every request running here is aborted. Streams
 * wait for the next line where the options hold them and this one broke (`isBreak`); else they are reset with SESSION_LOST. The first
 * cause is what `closed` tells. `closed` resolves when the socket is gone.
 */
import { type Clock, systemClock, type Timer } from '../clock.ts';
import { FairleadError, toFairleadError } from '../errors.ts';
import { JsonRpcPeer } from '../jsonrpc/peer.ts';
import type { LocalHello, PeerHello } from '../mux/hello.ts';
import { cutUtf8 } from '../mux/payload.ts';
import { RESET_CODES } from '../mux/reset-codes.ts';
import { MuxSession } from '../mux/session.ts';
import { closeCodeOf, isBreak, MAX_CLOSE_REASON_BYTES, remoteClose } from './close-codes.ts';
import { Heartbeat } from './heartbeat.ts';
import type { MessageSocket } from './message-socket.ts';
import { Outbox } from './outbox.ts';
import { randomId128 } from './random-id.ts';
import type { LineClosed, LineLimits, LineOptions } from './types.ts';

export const DEFAULT_LINE_LIMITS: LineLimits = {
  mux: {},
  rpc: {},
  helloTimeoutMs: 10_000,
  heartbeatMs: 10_000,
  deadAfterMs: 25_000,
};

export class Line {
  readonly peer: JsonRpcPeer;
  readonly mux: MuxSession;
  /** The other side's HELLO; rejects when the line ends before it came. */
  readonly ready: Promise<PeerHello>;
  /** Never rejects. */
  readonly closed: Promise<LineClosed>;

  readonly #options: LineOptions;
  readonly #socket: MessageSocket;
  readonly #outbox: Outbox;
  readonly #heartbeat: Heartbeat;
  readonly #helloTimer: Timer;
  readonly #ready = Promise.withResolvers<PeerHello>();
  readonly #closed = Promise.withResolvers<LineClosed>();
  #outcome: LineClosed | undefined;

  constructor(options: LineOptions) {
    const { socket, handlers } = options;
    const clock: Clock = options.clock ?? systemClock;
    const limits: LineLimits = { ...DEFAULT_LINE_LIMITS, ...options.limits };
    this.#options = options;
    this.#socket = socket;
    this.ready = this.#ready.promise;
    this.closed = this.#closed.promise;
    // A line that nobody waits for still tells by `closed` why it never was ready.
    this.ready.catch(() => {});

    this.mux = new MuxSession({
      role: options.role,
      hello: withSession(options),
      held: options.held?.table,
      limits: limits.mux,
      pool: options.pool,
      now: () => clock.now(),
      onReady: () => this.#outbox.schedule(),
      onPing: (value) => this.#outbox.asked(value),
      onPong: (value) => this.#outbox.answered(value),
      onRunning: (hello) => {
        this.#helloTimer.cancel();
        options.held?.resumed();
        this.#ready.resolve(hello);
        // What the round trip is while nothing waits on the way.
        this.mux.ping();
      },
      onResume: handlers.onResume === undefined ? undefined : (stream, entry) => handlers.onResume?.(stream, entry),
      onOpen: handlers.onOpen === undefined ? undefined : (stream, meta) => handlers.onOpen?.(stream, meta),
      onGoAway: (goAway) => handlers.onGoAway?.(goAway),
      onClosed: (error) => this.#fail(error),
      onFault: (error) => options.logger?.error({ err: error }, 'a stream failed while its line closed'),
    });
    this.#outbox = new Outbox(socket, this.mux, () => clock.now());
    this.peer = new JsonRpcPeer({
      send: (text) => this.#sendText(text),
      sendProgress: (text) => this.#outbox.pushProgress(text),
      onRequest: (method, params, context) => handlers.onRequest(method, params, context),
      onNotification: (method, params) => handlers.onNotification?.(method, params),
      onProtocolError: (error) => this.#fail(error),
      onHandlerFault: (error, method) => options.logger?.error({ err: error, method }, 'a request handler failed'),
      clock,
      limits: limits.rpc,
    });
    this.#heartbeat = new Heartbeat({
      clock,
      intervalMs: limits.heartbeatMs,
      deadAfterMs: limits.deadAfterMs,
      onPing: () => this.mux.ping(),
      onDead: (silentMs) => this.#onDead(silentMs),
    });
    this.#helloTimer = clock.setTimeout(() => {
      this.#fail(new FairleadError('TIMEOUT', `the other side did not say HELLO within ${limits.helloTimeoutMs} ms`));
    }, limits.helloTimeoutMs);
    socket.start({
      onText: (text) => this.#onText(text),
      onBinary: (bytes) => this.#onBinary(bytes),
      onDrain: () => this.#outbox.drained(),
      onClose: (code, reason) => this.#onSocketClose(code, reason),
    });
    this.#outbox.schedule();
  }

  /** Smoothed round trip in milliseconds; undefined before the first PONG. */
  get rttMs(): number | undefined {
    return this.mux.rttMs;
  }

  /**
   * End the line on purpose: pending calls settle now. `code` as in RFC 6455 §7.4.1; with 1000 it is for good and streams end, with 1001
   * this side comes back or expects the other to, and streams that are held wait.
   */
  close(code = 1000, reason = ''): void {
    this.#end({ error: undefined, code, reason: cutUtf8(reason, MAX_CLOSE_REASON_BYTES) }, () => this.#hangUp(code, reason));
  }

  /** Ask the other side to leave: it opens no new stream, has `drainMs` for what is open, and comes back within `spreadMs`. */
  goAway(options: { drainMs: number; spreadMs: number; reason?: string }): void {
    this.mux.goAway({ code: RESET_CODES.NORMAL, reason: '', ...options });
  }

  #sendText(text: string): void {
    try {
      this.#outbox.pushText(text);
    } catch (thrown) {
      this.#fail(toFairleadError(thrown));
    }
  }

  #onText(text: string): void {
    if (this.#outcome !== undefined) return;
    this.#heartbeat.heard();
    if (this.mux.peerHello === undefined) {
      this.#fail(new FairleadError('PROTOCOL_ERROR', 'the peer sent a text message before HELLO'));
    } else {
      this.mux.heardText();
      this.peer.receive(text);
    }
  }

  #onBinary(bytes: Uint8Array): void {
    if (this.#outcome !== undefined) return;
    this.#heartbeat.heard();
    const { maxMessageBytes } = this.mux.limits;
    if (bytes.length > maxMessageBytes) {
      const text = `the peer sent a binary message of ${bytes.length} bytes where HELLO allows ${maxMessageBytes}`;
      this.#fail(new FairleadError('PROTOCOL_ERROR', text), 1009);
    } else {
      this.mux.receive(bytes);
    }
  }

  /** Nothing can be said to a peer that does not hear: no closing handshake. */
  #onDead(silentMs: number): void {
    const error = new FairleadError('INTERRUPTED', `the other side has been silent for ${Math.round(silentMs)} ms`);
    this.#end({ error, code: 1006, reason: error.message }, () => this.#socket.terminate());
  }

  #onSocketClose(code: number, reason: string): void {
    const outcome = remoteClose(code, reason);
    this.#end(outcome, () => {});
    // SAFETY: #end has set it, now or before.
    this.#closed.resolve(this.#outcome!);
  }

  #fail(error: FairleadError, code = closeCodeOf(error)): void {
    this.#end({ error, code, reason: error.message }, () => this.#hangUp(code, error.message));
  }

  #hangUp(code: number, reason: string): void {
    this.#socket.close(code, cutUtf8(reason, MAX_CLOSE_REASON_BYTES));
  }

  /** The first cause counts. `dispose` deals with the socket, after everything above it has settled. */
  #end(outcome: LineClosed, dispose: () => void): void {
    if (this.#outcome !== undefined) return;
    this.#outcome = outcome;
    this.#heartbeat.stop();
    this.#helloTimer.cancel();
    const why = outcome.error?.message ?? (outcome.reason === '' ? 'it was closed' : outcome.reason);
    const error = new FairleadError('INTERRUPTED', `the line is gone: ${why}`, { cause: outcome.error });
    this.#ready.reject(outcome.error ?? error);
    this.#outbox.flush();
    if (isBreak(outcome.code)) {
      this.mux.lose(error);
      this.#options.held?.lost();
    } else {
      this.mux.close(error);
    }
    this.peer.close(error);
    this.#outbox.stop();
    this.#options.logger?.debug({ code: outcome.code, reason: outcome.reason, err: outcome.error }, 'line closed');
    dispose();
  }
}

function withSession({ hello, held }: LineOptions): LocalHello & Required<Pick<LocalHello, 'session'>> {
  if (held === undefined) return { ...hello, session: hello.session ?? { id: randomId128(), epoch: 0 } };
  const { id, key, isWaiting } = held;
  return { ...hello, session: { id, key, epoch: hello.session?.epoch ?? 0, resume: isWaiting } };
}
