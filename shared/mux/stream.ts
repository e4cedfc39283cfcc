/**
 * A raw stream: its state on the line it is on now, and how it gets to the next one. What arrives goes straight to the handler.
 *
 *   opener    opening ──OPEN_OK──▶ open ──┐            within `open` each direction ends by itself:
 *                │ OPEN_ERR               │              ours:   fin() ─▶ FIN goes out ─▶ END comes
 *                ▼                        │ DONE         theirs: FIN comes ─▶ all is consumed ─▶ END goes out
 *             closed ◀──RESET either way──┤ both ways  DONE says: I have your END. Nothing is missing any more to who said and heard it.
 *                ▲ refuse()               │
 *                │                        ▼            RESET in any state leads to `closed` at once; what was queued is dropped.
 *   acceptor  offered ──accept()──▶ open ─┘
 *
 * Within `open`, a stream outlives lines. Each RESUME entry has a round; bytes flow while both sides' last entries are of the same one:
 *
 *             flowing ── begin a round: our entry goes out ──▶ waiting ── theirs, of this round ──▶ flowing, from where it says
 *                └────── theirs, of a higher round ──▶ asked ── our answer goes out ──▶ flowing
 *
 * `waiting`: what arrives was sent before the other side knew, and is void. Nothing goes out unless it flows. An end answers by itself; a
 * relay (`handler.relays`) passes entries on, as it does with credit, END and DONE, which only ends can say of themselves.
 *
 * The opener sends nothing between OPEN and OPEN_OK, which has its first credit. Upper half: the methods of RawStream, which throw on
 * misuse and do nothing on a closed stream. Bottom half: `on…`, `pull` and `takeWindow`, called by the session, which closes itself with
 * whatever they throw.
 */
import { FairleadError, type JsonObject } from '../errors.ts';
import { FLAG, type Frame, frameName, violation } from './frame.ts';
import { WIRE } from './limits.ts';
import type { StreamKey } from './numbers.ts';
import { type Credit, type Opening, writeOpenOk, writeRefusal, writeReset, writeWindow } from './payload.ts';
import type { MemoryPool } from './pool.ts';
import { ReceiveSide } from './receive-side.ts';
import { RESET_CODES } from './reset-codes.ts';
import { type ListedEntry, type ResumeEntry, writeResume } from './resume-entry.ts';
import { type Schedulable, UNSCHEDULED } from './scheduler.ts';
import { excess, SendSide } from './send-side.ts';
import type { RawStream, StreamHandler } from './stream-handler.ts';

/** What a stream needs of the line it is on, or of the place where it waits for the next one. */
export interface StreamHost {
  /** Memory of the session. */
  readonly pool: MemoryPool;
  queueControl(frame: Uint8Array): void;
  queueReset(stream: MuxStream, frame: Uint8Array): void;
  queueWindow(stream: MuxStream): void;
  activate(stream: MuxStream): void;
  /** Closed: forget it. */
  remove(stream: MuxStream): void;
}

/** A round is one line of one end. Beyond this it is somebody who wants the other end to run out of them. */
const MAX_ROUND = 0x4000_0000;

export type StreamState = 'opening' | 'offered' | 'open' | 'closed';

export class MuxStream implements RawStream, Schedulable<MuxStream> {
  readonly id: number;
  readonly key: StreamKey;
  readonly schedule: Schedulable<MuxStream>['schedule'] = { ...UNSCHEDULED };
  /** Whether a WINDOW waits to be sent. */
  windowQueued = false;

  readonly #host: StreamHost;
  #state: StreamState;
  #handler: StreamHandler | undefined;
  readonly #sending: SendSide;
  readonly #receiving: ReceiveSide;
  /** Rounds of the last entries sent and received. */
  #ourRound = 0;
  #theirRound = 0;
  /** Relays: what the end behind it says of END and DONE. */
  #endPassed = false;
  #donePassed = false;
  #doneSaid = false;
  #doneHeard = false;

  constructor(
    host: StreamHost,
    identity: { readonly id: number; readonly key: StreamKey },
    state: 'opening' | 'offered' | 'open',
    credit: { readonly send: number; readonly receive: number },
  ) {
    this.#host = host;
    this.id = identity.id;
    this.key = identity.key;
    this.#state = state;
    this.#sending = new SendSide(identity.id, credit.send, host.pool);
    this.#receiving = new ReceiveSide(identity.id, credit.receive);
  }

  get state(): StreamState {
    return this.#state;
  }

  get sendLimit(): number {
    return this.#sending.limit;
  }

  get sentBytes(): number {
    return this.#sending.sentBytes;
  }

  get queuedBytes(): number {
    return this.#sending.queuedBytes;
  }

  get unackedBytes(): number {
    return this.#sending.unackedBytes;
  }

  get sendable(): boolean {
    return this.#state === 'open' && this.#flows && this.#sending.hasWork;
  }

  attach(handler: StreamHandler): void {
    this.#handler = handler;
    if (handler.relays === true) this.#sending.keepNothing();
  }

  accept(meta: JsonObject, creditBytes: number): void {
    if (this.#state === 'closed') return;
    this.#require('offered', 'accepted');
    const frame = writeOpenOk(this.id, { creditBytes, meta });
    this.#receiving.begin(creditBytes);
    this.#state = 'open';
    this.#host.queueControl(frame);
    this.#activate();
  }

  refuse(error: FairleadError): void {
    if (this.#state === 'closed') return;
    this.#require('offered', 'refused');
    this.#host.queueControl(writeRefusal(this.id, error));
    this.#close();
  }

  send(payload: Uint8Array, exhausted = false): void {
    if (this.#state === 'closed') return;
    this.#sending.push(payload, exhausted);
    this.#activate();
  }

  grant(limit: number, acked: number): void {
    if (this.#state !== 'open') return;
    if (this.#receiving.grant(limit, acked)) this.#host.queueWindow(this);
  }

  passOn(credit: Credit): void {
    if (this.#state !== 'open') return;
    this.#receiving.grant(credit.limit, credit.acked);
    this.#endPassed = credit.end;
    this.#donePassed = credit.done;
    this.#host.queueWindow(this);
  }

  fin(): void {
    if (this.#state === 'closed' || this.#sending.finQueued) return;
    this.#sending.fin();
    this.#activate();
  }

  reset(code: number, reason: string): void {
    if (this.#state === 'closed') return;
    this.#host.queueReset(this, writeReset(this.id, code, reason));
    this.#close();
  }

  resume(entry: ResumeEntry): boolean {
    if (this.#state !== 'open' || entry.round <= this.#ourRound) return false;
    this.#host.queueControl(writeResume([this.#say(entry)], false));
    this.#goOn();
    return true;
  }

  /** Leave without a word: the line is gone, or another one has taken over. */
  abandon(): void {
    this.#close();
  }

  /** The line is gone; the stream waits for the next one. */
  detached(): void {
    this.windowQueued = false;
    Object.assign(this.schedule, UNSCHEDULED);
  }

  /** Our entry for a new line; nothing flows until the other side's. */
  beginRound(): ListedEntry {
    return this.#say(this.#entry(Math.max(this.#ourRound, this.#theirRound) + 1));
  }

  onOpened(opening: Opening, frame: Frame): void {
    if (this.#state !== 'opening') throw violation('OPEN_OK', frame.offset, `is for stream ${this.id}, which is ${this.#state}`);
    if (opening.creditBytes > WIRE.maxWindowBytes) throw violation('OPEN_OK', frame.offset, excess(opening.creditBytes));
    this.#state = 'open';
    this.#sending.begin(opening.creditBytes);
    this.#activate();
    this.#handler?.onOpened?.(opening.meta);
  }

  onRefused(error: FairleadError, frame: Frame): void {
    if (this.#state !== 'opening') throw violation('OPEN_ERR', frame.offset, `is for stream ${this.id}, which is ${this.#state}`);
    this.#close();
    this.#handler?.onRefused?.(error);
  }

  onData(frame: Frame): void {
    if (this.#isVoid(frame)) return;
    this.#receiving.onData(frame);
    this.#handler?.onData(frame.payload, (frame.flags & FLAG.EXHAUSTED) !== 0);
  }

  onFin(frame: Frame): void {
    if (this.#isVoid(frame)) return;
    this.#receiving.onFin(frame);
    if (!this.#relays && this.#receiving.ended) this.#host.queueWindow(this);
    this.#handler?.onFin();
  }

  onWindow(credit: Credit, frame: Frame): void {
    if (this.#state !== 'open') throw violation('WINDOW', frame.offset, `is for stream ${this.id}, which is ${this.#state}`);
    if (!this.#flows) return this.#requireWaiting(frame);
    if (credit.done && !this.#receiving.finReceived) {
      throw violation('WINDOW', frame.offset, `says DONE of stream ${this.id}, whose FIN has not come`);
    }
    const isNews = credit.end && !this.#sending.ended;
    this.#sending.onWindow(credit, frame);
    this.#activate();
    this.#handler?.onCredit?.(credit);
    this.#heard(credit, isNews);
  }

  /** The other side's RESET, or the end of the session. */
  onReset(code: number, reason: string): void {
    if (this.#state === 'closed') return;
    this.#close();
    this.#handler?.onReset(code, reason);
  }

  /** `isListed`: it is among the first frames of a new line, and may ask. */
  onResume(entry: ResumeEntry, isListed = false): void {
    if (this.#state !== 'open' || entry.key !== this.key) {
      return this.#fail(RESET_CODES.UNKNOWN_STREAM, 'this side holds no such stream');
    }
    if (entry.round <= this.#theirRound || entry.round < this.#ourRound) return;
    // Each would go on to the other end, whose line bears so many a second and no more.
    if (this.#relays && !isListed && entry.round > this.#ourRound) {
      return this.#fail(RESET_CODES.RESUME_GAP, `round ${entry.round} was begun on a line that is not new`);
    }
    const isNews = entry.end && !this.#sending.ended;
    // A relay learns of the FIN from the other end's entry.
    const isPossible = this.#relays || !entry.done || this.#receiving.finReceived;
    if (entry.round > MAX_ROUND || !isPossible || !this.#sending.rewind(entry)) {
      return this.#fail(RESET_CODES.RESUME_GAP, `offset ${entry.received} is not within what is kept`);
    }
    this.#theirRound = entry.round;
    if (this.#relays) this.#handler?.onResume?.(entry);
    else {
      this.resume(this.#entry(entry.round));
      this.#handler?.onRerouted?.();
    }
    this.#heard(entry, isNews);
    this.#goOn();
  }

  /** The line is gone and nothing waits for the next one here. False when the handler does not take that, and must be told of an end. */
  onLost(): boolean {
    if (this.#state !== 'open' || this.#handler?.onLost === undefined) return false;
    this.#close();
    this.#handler.onLost();
    return true;
  }

  /** Data of the next frame that is not to be cut. */
  get uncutBytes(): number {
    return this.#sending.uncutBytes;
  }

  /** Put the next frame's parts, at most `atMost` of data and rather what is `fitting`, into `parts`. Returns its bytes on the line. */
  pull(parts: Uint8Array[], atMost: number, fitting: number): number {
    const bytes = this.#sending.pull(parts, atMost, fitting);
    if (bytes === 0) return WIRE.headerBytes + 8;
    this.#handler?.onSent?.(bytes);
    return WIRE.headerBytes + bytes;
  }

  /** The WINDOW that is due, or nothing if that has changed. */
  takeWindow(): Uint8Array | undefined {
    if (this.#state !== 'open' || !this.#flows) return undefined;
    const credit = this.#credit();
    const frame = writeWindow(this.id, credit);
    this.#doneSaid ||= credit.done;
    this.#closeWhenDone();
    return frame;
  }

  get #relays(): boolean {
    return this.#handler?.relays === true;
  }

  get #flows(): boolean {
    return this.#ourRound === this.#theirRound;
  }

  #credit(): Credit {
    const { limit, consumedBytes: acked, ended } = this.#receiving;
    if (this.#relays) return { limit, acked, end: this.#endPassed, done: this.#donePassed };
    return { limit, acked, end: ended, done: this.#sending.ended };
  }

  #entry(round: number): ResumeEntry {
    return { ...this.#credit(), round, received: this.#receiving.receivedBytes, key: this.key };
  }

  /** What the entry says holds from here on, also of a relay's side. */
  #say(entry: ResumeEntry): ListedEntry {
    this.#ourRound = entry.round;
    this.#receiving.rebase(entry);
    this.#doneSaid = entry.done;
    if (this.#relays) {
      this.#endPassed = entry.end;
      this.#donePassed = entry.done;
      this.#sending.drop();
    }
    return { ...entry, streamId: this.id };
  }

  #heard({ done }: Credit, isEndNews: boolean): void {
    this.#doneHeard = done;
    if (isEndNews && !this.#relays) {
      this.#host.queueWindow(this);
      this.#handler?.onEnded?.();
    }
    this.#closeWhenDone();
  }

  /** Both rounds may be the same now. */
  #goOn(): void {
    if (this.#state !== 'open' || !this.#flows) return;
    if (!this.#relays) this.#host.queueWindow(this);
    this.#activate();
    this.#closeWhenDone();
  }

  #closeWhenDone(): void {
    if (this.#state !== 'open' || !this.#flows || !this.#doneSaid || !this.#doneHeard) return;
    this.#close();
    this.#handler?.onDone?.();
  }

  #activate(): void {
    if (this.sendable) this.#host.activate(this);
  }

  #fail(code: number, reason: string): void {
    this.reset(code, reason);
    this.#handler?.onReset(code, reason);
  }

  #close(): void {
    this.#state = 'closed';
    this.#sending.clear();
    this.#host.remove(this);
  }

  #require(state: StreamState, verb: string): void {
    if (this.#state === state) return;
    throw new FairleadError('INTERNAL', `stream ${this.id} cannot be ${verb}: it is ${this.#state}, not ${state}`);
  }

  /** Whether DATA or FIN is to be passed over. Throws when it is not allowed at all. */
  #isVoid(frame: Frame): boolean {
    if (this.#state !== 'open') throw this.#misplaced(frame, this.#state);
    if (!this.#flows) {
      this.#requireWaiting(frame);
      return true;
    }
    if (this.#receiving.finReceived) throw this.#misplaced(frame, 'ended already by a FIN');
    return false;
  }

  #requireWaiting(frame: Frame): void {
    if (this.#theirRound > this.#ourRound) throw this.#misplaced(frame, 'about to be resumed and has no answer yet');
  }

  #misplaced(frame: Frame, state: string): FairleadError {
    return violation(frameName(frame.type), frame.offset, `is for stream ${this.id}, which is ${state}`);
  }
}
