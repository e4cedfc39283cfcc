/**
 * The mux: many streams over one ordered flow of binary messages. It knows no socket, no clock and no VM; both ends are the same but
 * for the ids that they give (the dialler odd ones, the acceptor even ones).
 *
 *     receive(message) ──▶ handlers of streams             onReady() ◀── something waits
 *     pull(maxBytes)   ◀── control frames, then data       onClosed(error) ◀── the first violation
 *
 *   awaiting HELLO ──HELLO──▶ running ──goAway() / GOAWAY──▶ running, no new streams on that side
 *        │ HELLO with `resume`   ▲
 *        └───▶ resuming ──last RESUME
 *   from anywhere ── close() or a violation ──▶ closed: every stream is reset with SESSION_LOST
 *                 ── lose() ──▶ closed: streams of a table that is held wait there for the next session, relays are told `onLost`
 *
 * A dialler that holds streams says so in HELLO and begins with RESUME; the acceptor opens nothing before it has that.
 *
 * Bottom half: `receive` and `pull` never throw. A violation of the peer, and whatever a handler throws, closes the session with that
 * error; the first one counts. What is sent between a violation and the closing of the socket is nobody's concern any more.
 */
import { FairleadError, type JsonObject, toFairleadError } from '../errors.ts';
import { ControlQueue } from './control-queue.ts';
import { FLAG, FRAME, type Frame, frameBytes, frameName, readFrame, violation } from './frame.ts';
import type { LocalHello, PeerHello } from './hello.ts';
import {
  DEFAULT_MUX_LIMITS,
  FLOOD,
  MAX_UNKNOWN_STREAMS,
  MESSAGE_BYTES,
  type MuxLimits,
  PROTOCOL_VERSION,
  SESSION_POOL_BYTES,
  WIRE,
} from './limits.ts';
import { newKey, readU64, type StreamKey } from './numbers.ts';
import { isLeftover, type Message, packData } from './pack-data.ts';
import {
  type GoAway,
  readGoAway,
  readHello,
  readOpen,
  readOpenOk,
  readRefusal,
  readReset,
  readWindow,
  writeGoAway,
  writeHello,
  writeOpen,
  writePing,
  writeRefusal,
  writeReset,
} from './payload.ts';
import { MemoryPool, processPool } from './pool.ts';
import { RateLimit } from './rate-limit.ts';
import { RESET_CODES } from './reset-codes.ts';
import { type ListedEntry, type ResumeEntry, readResume, writeResumes } from './resume-entry.ts';
import { RoundTrip } from './round-trip.ts';
import { Scheduler } from './scheduler.ts';
import { excess } from './send-side.ts';
import { MuxStream } from './stream.ts';
import type { RawStream, StreamHandler } from './stream-handler.ts';
import { type StreamLine, StreamTable } from './stream-table.ts';

const MAY_PRECEDE_RESUME: ReadonlySet<number> = new Set([FRAME.HELLO, FRAME.RESUME, FRAME.PING, FRAME.PONG, FRAME.GOAWAY]);

export interface MuxSessionOptions {
  readonly role: 'dialer' | 'acceptor';
  readonly hello: LocalHello & Required<Pick<LocalHello, 'session'>>;
  readonly limits?: Partial<MuxLimits> | undefined;
  /** Memory of the process; the session makes its own pool within it, unless its streams have one already. */
  readonly pool?: MemoryPool | undefined;
  /** Streams that outlive this session, of a dialler. Without it they end with the session. */
  readonly held?: StreamTable | undefined;
  /** Monotonic milliseconds, for flood limits and the round trip. */
  readonly now: () => number;
  /** `pull` has something. Called often; never call `pull` from within it. */
  readonly onReady: () => void;
  readonly onHello?: ((hello: PeerHello) => void) | undefined;
  /** A PING with `value` leaves by the `pull` that is under way, before the data of that message, or by `takePing`. */
  readonly onPing?: ((value: number) => void) | undefined;
  /** Its PONG came: all that was sent before it has been read. */
  readonly onPong?: ((value: number) => void) | undefined;
  /** Without it, streams are refused. */
  readonly onOpen?: ((stream: RawStream, meta: JsonObject) => void) | undefined;
  /**
   * The peer holds a stream of an earlier line: attach a handler and either `resume` it with an entry of its other end, now or later, or
   * reset it. Without this, or on an end's side, such streams are told that they are not known.
   */
  readonly onResume?: ((stream: RawStream, entry: ResumeEntry) => void) | undefined;
  /** HELLO has come, and all that the peer holds. Streams may be opened from here on. */
  readonly onRunning?: ((hello: PeerHello) => void) | undefined;
  readonly onGoAway?: ((goAway: GoAway) => void) | undefined;
  /** Called once. */
  readonly onClosed?: ((error: FairleadError) => void) | undefined;
  /** A stream's handler threw while the session closed. */
  readonly onFault?: ((error: FairleadError) => void) | undefined;
}

export class MuxSession {
  readonly limits: MuxLimits;
  /** Receive memory of this session. */
  readonly pool: MemoryPool;
  /** Monotonic milliseconds. */
  readonly now: () => number;

  readonly #options: MuxSessionOptions;
  readonly #table: StreamTable;
  readonly #isHeld: boolean;
  readonly #scheduler = new Scheduler<MuxStream>();
  readonly #control: ControlQueue;
  readonly #roundTrip: RoundTrip;
  readonly #floods = {
    ping: new RateLimit(FLOOD.ping),
    streams: new RateLimit(FLOOD.streams),
    window: new RateLimit(FLOOD.window),
  };
  readonly #unknown = new Set<number>();
  readonly #line: StreamLine;

  #peer: PeerHello | undefined;
  #closedWith: FairleadError | undefined;
  /** The peer has said in HELLO that RESUME follows, and its last one is not here yet. */
  #resuming = false;
  #leaving = false;
  #peerLeaving = false;
  #isPulling = false;
  #dataBytes = 0;

  constructor(options: MuxSessionOptions) {
    this.#options = options;
    this.limits = { ...DEFAULT_MUX_LIMITS, ...options.limits };
    this.now = options.now;
    this.#isHeld = options.held !== undefined;
    this.#table =
      options.held ??
      new StreamTable({ role: options.role, pool: new MemoryPool(SESSION_POOL_BYTES, options.pool ?? processPool) });
    this.pool = this.#table.pool;
    this.#roundTrip = new RoundTrip(options.now);
    this.#control = new ControlQueue(this.limits.maxControlQueueBytes, {
      timestamp: () => this.#startPing(),
      onWindow: () => this.#floods.window.give(),
    });
    this.#line = {
      queueControl: (frame) => this.#queueControl(frame),
      queueWindow: (stream) => {
        this.#control.pushWindow(stream);
        this.#options.onReady();
      },
      activate: (stream) => {
        this.#scheduler.activate(stream);
        this.#options.onReady();
      },
    };
    if (!this.#isHeld) this.#table.attach(this.#line);
    const { maxFrameBytes, maxMessageBytes, initialWindowBytes, maxStreams } = this.limits;
    const limits = { maxFrameBytes, maxMessageBytes, initialWindowBytes, maxStreams };
    this.#control.push(writeHello({ protocol: PROTOCOL_VERSION, limits, ...options.hello }));
  }

  /** Streams open, from either side. */
  get streamCount(): number {
    return this.#table.size;
  }

  get peerHello(): PeerHello | undefined {
    return this.#peer;
  }

  get closedWith(): FairleadError | undefined {
    return this.#closedWith;
  }

  /** `pull` has nothing to give. */
  get isIdle(): boolean {
    return this.#closedWith !== undefined || (this.#control.isEmpty && this.#scheduler.isEmpty);
  }

  /** Of DATA and FIN, headers included, that `pull` has given. */
  get dataBytes(): number {
    return this.#dataBytes;
  }

  /** Smoothed round trip of PING and PONG in milliseconds. */
  get rttMs(): number | undefined {
    return this.#roundTrip.smoothedMs;
  }

  /**
   * Open a raw stream, granting `creditBytes` at first. Throws INTERRUPTED on a closed or leaving session, WRONG_STATE before the
   * peer's HELLO, LIMIT_EXCEEDED when the peer's `maxStreams` are open, the ids are used up or the meta is too long.
   */
  open(meta: JsonObject, handler: StreamHandler, creditBytes: number): RawStream {
    this.#requireOpenable();
    return this.#open(newKey(), meta, handler, creditBytes);
  }

  /** For relays: as `open`, of the stream that its other end knows by `key`. */
  openAs(key: StreamKey, meta: JsonObject, handler: StreamHandler, creditBytes: number): RawStream {
    this.#requireOpenable();
    return this.#open(key, meta, handler, creditBytes);
  }

  #open(key: StreamKey, meta: JsonObject, handler: StreamHandler, creditBytes: number): RawStream {
    const id = this.#table.nextId;
    const frame = writeOpen(id, key, { creditBytes, meta });
    const stream = new MuxStream(this.#table, { id, key }, 'opening', { send: 0, receive: creditBytes });
    stream.attach(handler);
    this.#table.add(stream);
    this.#queueControl(frame);
    return stream;
  }

  ping(): void {
    this.#control.pushPing();
    this.#options.onReady();
  }

  /** A text message has come on the same line: who sends those may ask whether they have been read, as who sends data may. */
  heardText(): void {
    this.#floods.ping.give();
  }

  /** No stream of the peer is taken from here on; those open go on. */
  goAway(goAway: Omit<GoAway, 'lastId'>): void {
    if (this.#leaving || this.#closedWith !== undefined) return;
    this.#leaving = true;
    this.#queueControl(writeGoAway({ ...goAway, lastId: this.#table.lastPeerId }));
  }

  /** Bottom half: one binary message. */
  receive(message: Uint8Array): void {
    if (this.#closedWith !== undefined) return;
    try {
      if (message.length === 0) throw new FairleadError('PROTOCOL_ERROR', 'the peer sent a binary message without a frame');
      const now = this.#options.now();
      for (let offset = 0; offset < message.length && this.#closedWith === undefined; ) {
        const frame = readFrame(message, offset);
        this.#dispatch(frame, now);
        offset += frameBytes(frame);
      }
    } catch (thrown) {
      this.close(toFairleadError(thrown));
    }
  }

  /**
   * Bottom half: what waits, control before data, as the parts of one message, or undefined. `sparse` data is that of streams that have
   * little to send. The message may be a little longer than `maxBytes` (pack-data.ts), though never longer than what the peer takes.
   *
   * Handlers hear of what has gone meanwhile, and may bring about a second `pull`: it gives nothing, or would overtake the first one.
   */
  pull(maxBytes: number, data: 'none' | 'sparse' | 'all' = 'all', mostBytes = MESSAGE_BYTES): Uint8Array[] | undefined {
    if (this.#closedWith !== undefined || this.#isPulling) return undefined;
    const parts: Uint8Array[] = [];
    this.#isPulling = true;
    try {
      const bytes = this.#control.pull(parts, maxBytes);
      // Never ahead of what waits: an OPEN_OK or an entry of RESUME may be among it, before which the other side takes none.
      if (data !== 'none' && this.#peer !== undefined && this.#control.isEmpty)
        this.#pullData({ parts, bytes, maxBytes, mostBytes, limits: this.#peer.limits }, data);
    } catch (thrown) {
      this.close(toFairleadError(thrown));
      return undefined;
    } finally {
      this.#isPulling = false;
    }
    return parts.length === 0 ? undefined : parts;
  }

  #pullData(message: Message, data: 'sparse' | 'all'): void {
    const { frames, bytes } = packData(message, this.#scheduler, data);
    this.#dataBytes += bytes;
    this.#floods.window.give(frames);
  }

  /** All that waits is a piece of data that is hardly worth a message. */
  get hasLeftover(): boolean {
    return this.#control.isEmpty && isLeftover(this.#scheduler);
  }

  /** A PING that goes out behind what was pulled last: a message of its own costs more. */
  takePing(): Uint8Array {
    return writePing(this.#startPing());
  }

  /** Close with `error`; every stream is told SESSION_LOST. Only the first call of this or `lose` counts. */
  close(error: FairleadError): void {
    this.#close(error, false);
  }

  /** The line broke, and the other side may come back on another one. */
  lose(error: FairleadError): void {
    this.#close(error, true);
  }

  #close(error: FairleadError, isLoss: boolean): void {
    if (this.#closedWith !== undefined) return;
    this.#closedWith = error;
    const onFault = (thrown: unknown): void => this.#options.onFault?.(toFairleadError(thrown));
    if (isLoss && this.#isHeld) this.#table.detach(this.#line, error, onFault);
    else if (this.#table.isOn(this.#line)) this.#table.end(error, { isLoss, onFault });
    this.#options.onClosed?.(error);
  }

  #dispatch(frame: Frame, now: number): void {
    if (this.#peer === undefined) return this.#onHello(frame);
    if (this.#resuming && !MAY_PRECEDE_RESUME.has(frame.type)) {
      throw violation(frameName(frame.type), frame.offset, 'came before the streams that HELLO says are held');
    }
    const stream = this.#table.get(frame.streamId);
    switch (frame.type) {
      case FRAME.DATA:
        // Who sends data may ask whether it has been read.
        this.#floods.ping.give();
        if (frame.payload.length > this.limits.maxFrameBytes) {
          throw violation(
            'DATA',
            frame.offset,
            `has ${frame.payload.length} bytes where HELLO allows ${this.limits.maxFrameBytes}`,
          );
        }
        return stream === undefined ? this.#onStray(frame, now) : stream.onData(frame);
      case FRAME.WINDOW:
        this.#limit('window', now);
        return stream === undefined ? this.#onStray(frame, now) : stream.onWindow(readWindow(frame), frame);
      case FRAME.FIN:
        return stream === undefined ? this.#onStray(frame, now) : stream.onFin(frame);
      case FRAME.OPEN:
        this.#limit('streams', now);
        return this.#onOpen(frame);
      case FRAME.OPEN_OK:
        return stream === undefined ? this.#onStray(frame, now) : stream.onOpened(readOpenOk(frame), frame);
      case FRAME.OPEN_ERR:
        return stream === undefined ? this.#onStray(frame, now) : stream.onRefused(readRefusal(frame), frame);
      case FRAME.RESET: {
        this.#limit('streams', now);
        const { code, reason } = readReset(frame);
        return stream?.onReset(code, reason);
      }
      case FRAME.PING:
        this.#limit('ping', now);
        this.#control.pushPong(frame.payload);
        return this.#options.onReady();
      case FRAME.PONG:
        return this.#onPong(readU64(frame, 0), now);
      case FRAME.GOAWAY: {
        this.#limit('ping', now);
        this.#peerLeaving = true;
        return this.#options.onGoAway?.(readGoAway(frame));
      }
      case FRAME.HELLO:
        throw violation('HELLO', frame.offset, 'is not the first frame');
      case FRAME.RESUME:
        return this.#onResume(frame, now);
    }
  }

  #startPing(): number {
    const value = this.#roundTrip.start();
    this.#options.onPing?.(value);
    return value;
  }

  /** Only one that was not asked for can be part of a flood. */
  #onPong(value: number, now: number): void {
    if (this.#roundTrip.end(value)) this.#options.onPong?.(value);
    else this.#limit('ping', now);
  }

  #onHello(frame: Frame): void {
    if (frame.type !== FRAME.HELLO) throw violation(frameName(frame.type), frame.offset, 'came before HELLO');
    const peer = readHello(frame, PROTOCOL_VERSION);
    this.#peer = peer;
    this.#resuming = this.#options.role === 'acceptor' && peer.session.resume === true;
    if (this.#isHeld) this.#takeHeld(peer);
    if (!this.#resuming) this.#options.onRunning?.(peer);
  }

  /** The streams of the last line are on this one from here on, each once the other side has answered. */
  #takeHeld(peer: PeerHello): void {
    if (peer.session.resume !== true) {
      const onFault = (thrown: unknown): void => this.#options.onFault?.(toFairleadError(thrown));
      const error = new FairleadError('INTERRUPTED', 'the other side does not take streams of an earlier line');
      this.#table.end(error, { isLoss: false, onFault });
    }
    const { entries, resets } = this.#table.attach(this.#line);
    if (this.#options.hello.session.resume !== true) return;
    for (const frame of writeResumes(entries, peer.limits.maxMessageBytes)) this.#queueControl(frame);
    for (const frame of resets) this.#queueControl(frame);
  }

  #onResume(frame: Frame, now: number): void {
    for (const entry of readResume(frame)) {
      this.#limit('streams', now);
      const stream = this.#table.get(entry.streamId);
      if (stream !== undefined) stream.onResume(entry);
      else if (this.#resuming) this.#onHeld(entry);
      else this.#queueControl(writeReset(entry.streamId, RESET_CODES.UNKNOWN_STREAM, 'this side holds no such stream'));
    }
    // SAFETY: HELLO is here, else `dispatch` would not have come to this frame.
    const peer = this.#peer!;
    if (!this.#resuming || (frame.flags & FLAG.MORE) !== 0) return;
    this.#resuming = false;
    this.#options.onRunning?.(peer);
  }

  /** A stream of an earlier line that only the peer holds so far. */
  #onHeld(entry: ListedEntry): void {
    const { streamId: id, key } = entry;
    const stream = new MuxStream(this.#table, { id, key }, 'open', { send: 0, receive: 0 });
    const isTooMany = this.#table.size >= this.limits.maxStreams;
    this.#table.add(stream);
    if (isTooMany) return stream.reset(RESET_CODES.LIMIT, `more than ${this.limits.maxStreams} streams are held`);
    if (this.#options.onResume === undefined) {
      return stream.reset(RESET_CODES.UNKNOWN_STREAM, 'this side resumes no streams');
    }
    stream.attach({ relays: true, onData() {}, onFin() {}, onReset() {} });
    stream.onResume(entry, true);
    this.#options.onResume(stream, entry);
  }

  #onOpen(frame: Frame): void {
    const id = frame.streamId;
    const { lastPeerId } = this.#table;
    if (!this.#table.isPeerId(id)) {
      throw violation('OPEN', frame.offset, `has the stream id ${id}, which is for this side to give`);
    }
    if (id <= lastPeerId) throw violation('OPEN', frame.offset, `has the stream id ${id} after ${lastPeerId}: ids only rise`);
    const { creditBytes, key, meta } = readOpen(frame);
    if (creditBytes > WIRE.maxWindowBytes) throw violation('OPEN', frame.offset, excess(creditBytes));
    const refusal = this.#refusal();
    if (refusal !== undefined) {
      this.#table.skip(id);
      return this.#queueControl(writeRefusal(id, refusal));
    }
    const stream = new MuxStream(this.#table, { id, key }, 'offered', { send: creditBytes, receive: 0 });
    this.#table.add(stream);
    this.#options.onOpen?.(stream, meta);
  }

  /** Why a stream of the peer cannot be taken, if so. */
  #refusal(): FairleadError | undefined {
    if (this.#leaving) return new FairleadError('INTERRUPTED', 'this side is leaving: open the stream on the next line');
    if (this.#options.onOpen === undefined) return new FairleadError('UNSUPPORTED', 'this side takes no streams');
    if (this.#table.peerCount < this.limits.maxStreams) return undefined;
    return new FairleadError('LIMIT_EXCEEDED', `${this.limits.maxStreams} streams are open on this line already`);
  }

  /**
   * A frame for a stream that is not open. If it was once, the frame was on its way when the stream ended, and is dropped: credit and
   * memory of a closed stream are given back already. An id that never was is told so, once.
   */
  #onStray(frame: Frame, now: number): void {
    const id = frame.streamId;
    if (frame.type !== FRAME.DATA) this.#limit('streams', now);
    if (this.#table.isPast(id)) return;
    if (this.#unknown.has(id)) return;
    if (this.#unknown.size >= MAX_UNKNOWN_STREAMS) {
      throw violation(frameName(frame.type), frame.offset, `is for stream ${id}, one of too many that were never opened`);
    }
    this.#unknown.add(id);
    this.#queueControl(writeReset(id, RESET_CODES.UNKNOWN_STREAM, `stream ${id} was never opened`));
  }

  #limit(kind: keyof typeof FLOOD, now: number): void {
    if (this.#floods[kind].take(now)) return;
    const { burst, perSecond } = FLOOD[kind];
    throw new FairleadError(
      'LIMIT_EXCEEDED',
      `the peer floods the line with ${kind} frames: more than ${burst} and ${perSecond} a second`,
    );
  }

  #requireOpenable(): void {
    if (this.#closedWith !== undefined) throw new FairleadError('INTERRUPTED', 'the line is closed', { cause: this.#closedWith });
    if (this.#peer === undefined)
      throw new FairleadError('WRONG_STATE', 'the line is not ready: the peer has not said HELLO yet');
    if (this.#resuming) throw new FairleadError('WRONG_STATE', 'the line is not ready: the peer has not said what it holds yet');
    if (this.#peerLeaving) throw new FairleadError('INTERRUPTED', 'the other side is leaving and takes no new streams');
    const { maxStreams } = this.#peer.limits;
    if (this.#table.ownCount >= maxStreams) {
      throw new FairleadError('LIMIT_EXCEEDED', `${maxStreams} streams are open, as many as the other side takes`);
    }
    if (this.#table.nextId <= WIRE.maxStreamId) return;
    const reason = 'the stream ids of this line are used up';
    this.goAway({ code: RESET_CODES.LIMIT, drainMs: 0, spreadMs: 0, reason });
    throw new FairleadError('LIMIT_EXCEEDED', `${reason}: a new line is needed`);
  }

  #queueControl(frame: Uint8Array): void {
    if (this.#closedWith !== undefined) return;
    try {
      this.#control.push(frame);
    } catch (thrown) {
      this.close(toFairleadError(thrown));
      return;
    }
    this.#options.onReady();
  }
}
