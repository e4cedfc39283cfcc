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
 */
import { type FairleadError, type JsonObject, toFairleadError } from '../errors.ts';
import type { StreamKey } from './numbers.ts';
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
  readonly #near = new Leg();
  readonly #far = new Leg();
  /** The far end was asked, and its answer has not come. */
  #isOpening = false;
  #isTold = false;
  #isOver = false;

  constructor(key: StreamKey, hooks: RelayHooks) {
    this.key = key;
    this.#hooks = hooks;
  }

  /** Bytes that came in on that side, those that came again included. */
  receivedBytes(side: Side): number {
    return this.#leg(side).receivedBytes;
  }

  isAttached(side: Side): boolean {
    return this.#leg(side).stream !== undefined;
  }

  /** The way of an ordinary stream: `from` was offered, and is answered when the other end has answered. */
  open(from: RawStream, fromPool: MemoryPool | undefined, to: MuxSession, meta: JsonObject): void {
    try {
      const far = to.openAs(
        from.key,
        meta,
        {
          ...this.#handler('far'),
          onOpened: (answer) => {
            this.#isOpening = false;
            this.#hooks.onOpened?.(answer);
            from.accept(answer, far.sendLimit);
          },
          onRefused: (error) => {
            from.refuse(error);
            this.#finish({ refused: error });
          },
        },
        from.sendLimit,
      );
      this.#isOpening = true;
      this.#far.begin(far, to.pool);
      this.#near.begin(from, fromPool);
      from.attach(this.#handler('near'));
    } catch (thrown) {
      const error = toFairleadError(thrown);
      from.refuse(error);
      this.#finish({ refused: error });
    }
  }

  /** A leg is here again, or for the first time at this hub: `stream` is one that `onResume` gave, with its end's entry. */
  attach(side: Side, stream: RawStream, entry: ResumeEntry, pool: MemoryPool | undefined): void {
    const leg = this.#leg(side);
    if (this.#isOpening) {
      // The far end's answer was lost with its line: who opened the stream is told so, and may ask again.
      stream.reset(RESET_CODES.SESSION_LOST, 'the line broke before the stream was open');
      return this.end(RESET_CODES.SESSION_LOST, 'the line of the other end broke before the stream was open');
    }
    leg.lose();
    leg.begin(stream, pool);
    stream.attach(this.#handler(side));
    this.#onEntry(side, entry);
    const { said } = this.#leg(otherSide(side));
    if (said !== undefined && said.round >= entry.round) stream.resume(said);
  }

  /** Both ends are told, those that are here. */
  end(code: number, reason: string): void {
    this.#near.stream?.reset(code, reason);
    this.#far.stream?.reset(code, reason);
    this.#finish({ reset: { code, reason } });
  }

  #leg(side: Side): Leg {
    return side === 'near' ? this.#near : this.#far;
  }

  /** What arrives on the stream of `side` goes out on the other. */
  #handler(side: Side): StreamHandler {
    const own = this.#leg(side);
    const other = this.#leg(otherSide(side));
    return {
      relays: true,
      onData: (payload, exhausted) => {
        own.receivedBytes += payload.length;
        if (!other.send(payload, exhausted)) {
          this.end(RESET_CODES.LIMIT, 'too much waits for an end that gives credit and does not read');
        }
      },
      onSent: (bytes) => own.sent(bytes),
      onCredit: (credit) => other.stream?.passOn(credit),
      onFin: () => {
        other.stream?.fin();
        own.hasEnded = true;
        if (other.hasEnded) this.#tell({});
      },
      onReset: (code, reason) => {
        other.stream?.reset(code, reason);
        this.#finish({ reset: { code, reason } });
      },
      onResume: (entry) => this.#onEntry(side, entry),
      onLost: () => this.#onLost(side),
      onDone: () => {
        own.lose();
        own.isDone = true;
        if (other.isDone) this.#finish({});
      },
    };
  }

  #onEntry(side: Side, entry: ResumeEntry): void {
    this.#leg(side).said = entry;
    this.#leg(otherSide(side)).resume(entry);
  }

  #onLost(side: Side): void {
    this.#leg(side).lose();
    // The other end has said that it needs nothing more, and this one has been told; it will find nobody here, and that is well.
    const isNeeded = !this.#leg(otherSide(side)).isDone;
    if (isNeeded && this.#hooks.onHeld !== undefined) return this.#hooks.onHeld(side);
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

function otherSide(side: Side): Side {
  return side === 'near' ? 'far' : 'near';
}

/** One end's stream, if it is here, and the bytes that wait to go out on it, reserved in the pool of its session. */
class Leg {
  stream: RawStream | undefined;
  /** The last entry of the end on this side. */
  said: ResumeEntry | undefined;
  receivedBytes = 0;
  /** Its FIN has come. */
  hasEnded = false;
  /** It has said and heard DONE. */
  isDone = false;
  #pool: MemoryPool | undefined;
  #waitingBytes = 0;

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

  sent(bytes: number): void {
    this.#waitingBytes -= bytes;
    this.#pool?.release(bytes);
  }

  /** The other end's entry: what waits is void with it. */
  resume(entry: ResumeEntry): void {
    if (this.stream?.resume(entry) === true) this.sent(this.#waitingBytes);
  }

  /** The stream is gone, and what waited with it. */
  lose(): void {
    this.stream?.abandon();
    this.stream = undefined;
    this.sent(this.#waitingBytes);
    this.#pool = undefined;
  }
}
