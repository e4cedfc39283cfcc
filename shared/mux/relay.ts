/**
 * Joins a stream of one session to a stream of another: the hub between an operator and an agent.
 *
 *     operator ──OPEN──▶ from ─┐         ┌─ onward ──OPEN──▶ agent        credit of each end is granted to the other as it is,
 *              ◀──WINDOW──     └── here ─┘        ◀──WINDOW──            so that the two ends govern the flow alone
 *
 * Offsets go through unchanged, payloads are not copied, and no more than one window a direction ever waits here, because nobody has
 * credit for more. The end of one session is a RESET on the other.
 *
 * Windows are what the ends say, and one that gives much and reads nothing would fill the memory here. So what waits for a session counts
 * in its pool; honest ends, who give no more credit than that, never come up against it, and the streams of others are reset with LIMIT.
 */
import { type FairleadError, type JsonObject, toFairleadError } from '../errors.ts';
import type { MemoryPool } from './pool.ts';
import { RESET_CODES } from './reset-codes.ts';
import type { MuxSession } from './session.ts';
import type { RawStream, StreamHandler } from './stream-handler.ts';

export interface RelayOptions {
  /** A stream as `onOpen` offered it. */
  readonly from: RawStream;
  readonly to: MuxSession;
  /** Of the session of `from`; without it, what waits there is not counted. */
  readonly fromPool?: MemoryPool | undefined;
  /** Meta of the onward OPEN. */
  readonly meta: JsonObject;
  readonly onOpened?: (meta: JsonObject) => void;
  /** Called once, when it is over: with the refusal or the RESET's code, or with nothing after two FINs. */
  readonly onEnd?: (outcome: RelayOutcome) => void;
}

export interface RelayOutcome {
  readonly refused?: FairleadError;
  readonly reset?: { readonly code: number; readonly reason: string };
}

/** Pass `from` on to another session. Never throws: what hinders it refuses `from`. */
export function relayStream({ from, to, fromPool, meta, onOpened, onEnd }: RelayOptions): void {
  const waitsForFrom = new Waiting(fromPool);
  const waitsForOnward = new Waiting(to.pool);
  let finished = 0;
  let over = false;
  const end = (outcome: RelayOutcome): void => {
    if (over) return;
    over = true;
    onEnd?.(outcome);
  };
  const resetBoth = (code: number, reason: string): void => {
    from.reset(code, reason);
    onward.reset(code, reason);
    waitsForFrom.drop();
    waitsForOnward.drop();
    end({ reset: { code, reason } });
  };
  /** What arrives on one stream, for which `own` waits to go out, goes out on the other. */
  const towards = (other: () => RawStream, own: Waiting, others: Waiting): StreamHandler => ({
    onData: (payload, exhausted) => {
      if (others.add(payload.length)) other().send(payload, exhausted);
      else resetBoth(RESET_CODES.LIMIT, 'too much waits for an end that gives credit and does not read');
    },
    onSent: (bytes) => own.sent(bytes),
    onCredit: (limit, acked) => other().grant(limit, acked),
    onFin: () => {
      other().fin();
      finished += 1;
      if (finished === 2) end({});
    },
    onReset: resetBoth,
  });

  let onward: RawStream;
  try {
    onward = to.open(
      meta,
      {
        ...towards(() => from, waitsForOnward, waitsForFrom),
        onOpened: (answer) => {
          onOpened?.(answer);
          from.accept(answer, onward.sendLimit);
        },
        onRefused: (error) => {
          from.refuse(error);
          end({ refused: error });
        },
      },
      from.sendLimit,
    );
  } catch (thrown) {
    const error = toFairleadError(thrown);
    from.refuse(error);
    end({ refused: error });
    return;
  }
  from.attach(towards(() => onward, waitsForFrom, waitsForOnward));
}

/** Bytes that wait to go out on one stream, reserved in the pool of its session. */
class Waiting {
  readonly #pool: MemoryPool | undefined;
  #bytes = 0;

  constructor(pool: MemoryPool | undefined) {
    this.#pool = pool;
  }

  /** False when there is no room for them. */
  add(bytes: number): boolean {
    if (this.#pool?.reserve(bytes) === false) return false;
    this.#bytes += bytes;
    return true;
  }

  sent(bytes: number): void {
    this.#bytes -= bytes;
    this.#pool?.release(bytes);
  }

  /** The stream is over, and what waited is gone. */
  drop(): void {
    this.sent(this.#bytes);
  }
}
