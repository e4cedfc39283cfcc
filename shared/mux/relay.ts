/**
 * Joins a stream of one session to a stream of another: the hub between an operator and an agent.
 *
 *     operator ──OPEN──▶ from ─┐         ┌─ onward ──OPEN──▶ agent        credit of each end is granted to the other as it is,
 *              ◀──WINDOW──     └── here ─┘        ◀──WINDOW──            so that the two ends govern the flow alone
 *
 * Offsets go through unchanged, payloads are not copied, and no more than one window a direction ever waits here, because nobody has
 * credit for more. The end of one session is a RESET on the other.
 */
import { type FairleadError, type JsonObject, toFairleadError } from '../errors.ts';
import type { MuxSession } from './session.ts';
import type { RawStream, StreamHandler } from './stream-handler.ts';

export interface RelayOptions {
  /** A stream as `onOpen` offered it. */
  readonly from: RawStream;
  readonly to: MuxSession;
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
export function relayStream({ from, to, meta, onOpened, onEnd }: RelayOptions): void {
  let finished = 0;
  let over = false;
  const end = (outcome: RelayOutcome): void => {
    if (over) return;
    over = true;
    onEnd?.(outcome);
  };
  /** What arrives on one stream goes out on the other. */
  const towards = (other: () => RawStream): StreamHandler => ({
    onData: (payload, exhausted) => other().send(payload, exhausted),
    onCredit: (limit, acked) => other().grant(limit, acked),
    onFin: () => {
      other().fin();
      finished += 1;
      if (finished === 2) end({});
    },
    onReset: (code, reason) => {
      other().reset(code, reason);
      end({ reset: { code, reason } });
    },
  });

  let onward: RawStream;
  try {
    onward = to.open(
      meta,
      {
        ...towards(() => from),
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
  from.attach(towards(() => onward));
}
