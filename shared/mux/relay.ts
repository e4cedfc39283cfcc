/**
 * Joins a stream of one session to a stream of another: the hub between an operator and an agent.
 *
 *     operator ──OPEN──▶ near ─┐         ┌─ far ──OPEN──▶ agent        credit of each end is granted to the other as it is,
 *              ◀──WINDOW──     └── here ─┘      ◀──WINDOW──            so that the two ends govern the flow alone
 *
 *   opening ──OPEN_OK──▶ joined ──DONE of both passed on, a reset──▶ over
 *                           │ ▲
 *      a leg's line is gone ▼ │ attach(): it is here again
 *                          held ──end(): nobody came back──▶ over            (only where `onHeld` is given)
 *
 * Offsets go through unchanged, payloads are not copied, and no more than one window a direction ever waits here, because nobody has
 * credit for more. Nothing is kept to be sent again: while a leg is away, what arrives for it is dropped, and when it is back the ends' own
 * entries are passed on, which say where each goes on. So a relay can be made anew from what both ends say, by a hub that knows nothing.
 *
 * Windows are what the ends say, and one that gives much and reads nothing would fill the memory here. So what waits for a session counts
 * in its pool; honest ends, who give no more credit than that, never come up against it, and the streams of others are reset with LIMIT.
 *
 * Upper half: what the hub calls. Bottom half: `Leg`, the handler of each side's stream, and the methods of the relay that it calls: a hub has
 * thousands that are idle, and each closure would count twice for all of them.
 */
import { type FairleadError, type JsonObject, toFairleadError } from '../errors.ts';
import type { StreamKey } from './numbers.ts';
import type { Credit } from './payload.ts';
import type { MemoryPool } from './pool.ts';
import { RESET_CODES } from './reset-codes.ts';
import type { ResumeEntry } from './resume-entry.ts';
import type { MuxSession } from './session.ts';
import type { RawStream, StreamHandler } from './stream-handler.ts';

/** `near` is the leg of who opened the stream. */
export type Side = 'near' | 'far';

export interface RelayOutcome {
  readonly refused?: FairleadError;
  readonly reset?: { readonly code: number; readonly reason: string };
}

export interface RelayHooks {
  readonly onOpened?: (meta: JsonObject) => void;
  /** Called once, when it is over for its users: with the refusal or the RESET's code, or with nothing after two FINs. */
  readonly onEnd?: (outcome: RelayOutcome, relay: Relay) => void;
  /** A leg went away: the relay waits for it until `end`. Without this, it is over then. */
  readonly onHeld?: (side: Side) => void;
  /** Nothing more will happen: both legs are gone for good. Called once, after `onEnd`. */
  readonly onOver?: () => void;
}

export interface RelayOptions extends RelayHooks {
  /** A stream as `onOpen` offered it. */
  readonly from: RawStream;
  readonly to: MuxSession;
  /** Of the session of `from`; without it, what waits there is not counted. */
  readonly fromPool?: MemoryPool | undefined;
  /** Meta of the onward OPEN. */
  readonly meta: JsonObject;
}

/** Pass `from` on to another session. Never throws: what hinders it refuses `from`. */
export function relayStream({ from, to, fromPool, meta, ...hooks }: RelayOptions): Relay {
  const relay = new Relay(from.key, hooks);
  relay.open(from, fromPool, to, meta);
  return relay;
}

export class Relay {
  readonly key: StreamKey;
  readonly #hooks: RelayHooks;
  readonly #near: Leg;
  readonly #far: Leg;
  /** The far end was asked, and its answer has not come. */
  #isOpening = false;
  #isTold = false;
  #isOver = false;

  constructor(key: StreamKey, hooks: RelayHooks) {
    this.key = key;
    this.#hooks = hooks;
    this.#near = new Leg(this, 'near');
    this.#far = new Leg(this, 'far');
  }

  /** Bytes that came in on that side, those that came again included. */
  receivedBytes(side: Side): number {
    return this.leg(side).receivedBytes;
  }

  isAttached(side: Side): boolean {
    return this.leg(side).stream !== undefined;
  }

  /** The way of an ordinary stream: `from` was offered, and is answered when the other end has answered. */
  open(from: RawStream, fromPool: MemoryPool | undefined, to: MuxSession, meta: JsonObject): void {
    try {
      const far = to.openAs(from.key, meta, this.#far, from.sendLimit);
      this.#isOpening = true;
      this.#far.begin(far, to.pool);
      this.#near.begin(from, fromPool);
      from.attach(this.#near);
    } catch (thrown) {
      const error = toFairleadError(thrown);
      from.refuse(error);
      this.#finish({ refused: error });
    }
  }

  /** A leg is here again, or for the first time at this hub: `stream` is one that `onResume` gave, with its end's entry. */
  attach(side: Side, stream: RawStream, entry: ResumeEntry, pool: MemoryPool | undefined): void {
    const leg = this.leg(side);
    if (this.#isOpening) {
      // The far end's answer was lost with its line: who opened the stream is told so, and may ask again.
      stream.reset(RESET_CODES.SESSION_LOST, 'the line broke before the stream was open');
      return this.end(RESET_CODES.SESSION_LOST, 'the line of the other end broke before the stream was open');
    }
    leg.lose();
    leg.begin(stream, pool);
    stream.attach(leg);
    leg.onResume(entry);
    const { said } = leg.other;
    if (said !== undefined && said.round >= entry.round) stream.resume(said);
  }

  /** Both ends are told, those that are here. */
  end(code: number, reason: string): void {
    this.#near.stream?.reset(code, reason);
    this.#far.stream?.reset(code, reason);
    this.#finish({ reset: { code, reason } });
  }

  leg(side: Side): Leg {
    return side === 'near' ? this.#near : this.#far;
  }

  /** The far end took the stream. */
  onOpened(answer: JsonObject): void {
    this.#isOpening = false;
    this.#hooks.onOpened?.(answer);
    const creditBytes = this.#far.stream?.sendLimit ?? 0;
    this.#near.stream?.accept(answer, creditBytes);
  }

  onRefused(error: FairleadError): void {
    this.#near.stream?.refuse(error);
    this.#finish({ refused: error });
  }

  /** A FIN was passed on. */
  onFin(): void {
    if (this.#near.hasEnded && this.#far.hasEnded) this.#tell({});
  }

  onReset(code: number, reason: string): void {
    this.#finish({ reset: { code, reason } });
  }

  /** A leg has said and heard DONE. */
  onDone(): void {
    if (this.#near.isDone && this.#far.isDone) this.#finish({});
  }

  /** The line of a leg is gone. */
  onLost(leg: Leg): void {
    // The other end has said that it needs nothing more, and this one has been told; it will find nobody here, and that is well.
    if (!leg.other.isDone && this.#hooks.onHeld !== undefined) return this.#hooks.onHeld(leg.side);
    this.end(RESET_CODES.SESSION_LOST, 'the line of the other end is gone');
  }

  #tell(outcome: RelayOutcome): void {
    if (this.#isTold) return;
    this.#isTold = true;
    this.#hooks.onEnd?.(outcome, this);
  }

  #finish(outcome: RelayOutcome): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#near.lose();
    this.#far.lose();
    this.#tell(outcome);
    this.#hooks.onOver?.();
  }
}

/**
 * One end's stream, if it is here, and the bytes that wait to go out on it, reserved in the pool of its session. What arrives on it goes out
 * on the other leg.
 */
class Leg implements StreamHandler {
  readonly side: Side;
  stream: RawStream | undefined;
  /** The last entry of the end on this side. */
  said: ResumeEntry | undefined;
  receivedBytes = 0;
  /** Its FIN has come. */
  hasEnded = false;
  /** It has said and heard DONE. */
  isDone = false;
  readonly #relay: Relay;
  #pool: MemoryPool | undefined;
  #waitingBytes = 0;

  constructor(relay: Relay, side: Side) {
    this.#relay = relay;
    this.side = side;
  }

  get relays(): true {
    return true;
  }

  get other(): Leg {
    return this.#relay.leg(this.side === 'near' ? 'far' : 'near');
  }

  begin(stream: RawStream, pool: MemoryPool | undefined): void {
    this.stream = stream;
    this.#pool = pool;
  }

  /** False when there is no room for it. What comes while nobody is here is dropped: its sender will be asked for it again. */
  send(payload: Uint8Array, exhausted: boolean): boolean {
    if (this.stream === undefined) return true;
    if (this.#pool?.reserve(payload.length) === false) return false;
    this.#waitingBytes += payload.length;
    this.stream.send(payload, exhausted);
    return true;
  }

  /** The other end's entry: what waits is void with it. */
  resume(entry: ResumeEntry): void {
    if (this.stream?.resume(entry) === true) this.onSent(this.#waitingBytes);
  }

  /** The stream is gone, and what waited with it. */
  lose(): void {
    this.stream?.abandon();
    this.stream = undefined;
    this.onSent(this.#waitingBytes);
    this.#pool = undefined;
  }

  onOpened(answer: JsonObject): void {
    this.#relay.onOpened(answer);
  }

  onRefused(error: FairleadError): void {
    this.#relay.onRefused(error);
  }

  onData(payload: Uint8Array, exhausted: boolean): void {
    this.receivedBytes += payload.length;
    if (this.other.send(payload, exhausted)) return;
    this.#relay.end(RESET_CODES.LIMIT, 'too much waits for an end that gives credit and does not read');
  }

  onSent(bytes: number): void {
    this.#waitingBytes -= bytes;
    this.#pool?.release(bytes);
  }

  onCredit(credit: Credit): void {
    this.other.stream?.passOn(credit);
  }

  onFin(): void {
    this.other.stream?.fin();
    this.hasEnded = true;
    this.#relay.onFin();
  }

  onReset(code: number, reason: string): void {
    this.other.stream?.reset(code, reason);
    this.#relay.onReset(code, reason);
  }

  onResume(entry: ResumeEntry): void {
    this.said = entry;
    this.other.resume(entry);
  }

  onLost(): void {
    this.lose();
    this.#relay.onLost(this);
  }

  onDone(): void {
    this.lose();
    this.isDone = true;
    this.#relay.onDone();
  }
}
