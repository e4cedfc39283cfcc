/**
 * One bout: a thousand streams that nobody reads on one of two lines of a contender, and the same bulk on both, by turns. What a line moves
 * before its stalled streams and what it moves beside them, seconds later, differ by a fifth on a machine that does other things, also
 * where there are none. Two turns in a row differ by a twelfth, so there are many of them; the lines themselves by some hundredths, so there are several bouts.
 */
import type { Figures } from '../contest.ts';
import { median } from '../measure.ts';
import { bulkBout } from './bulk.ts';
import type { Contender } from './contenders.ts';
import type { ContenderLine } from './line.ts';
import type { Filled } from './order.ts';
import type { Place } from './place.ts';

const STALLED = { streams: 1_000, maxBytes: 512 * 1024 };
const OTHERS = { streams: 8, settleMs: 150, windowMs: 500, pings: false };
/** Of both lines; each goes first every other time. */
const ROUNDS = 24;

/** `kept`: throughput beside them to throughput of the other line; `MB`: the greatest growth of operator, hub or agent; `taken MB` by all of them. */
export async function stalledBout(
  contender: Contender,
  scope: AsyncDisposableStack,
  place: Place,
  parent: string,
): Promise<Figures> {
  const line = await contender.start(scope, place, parent);
  const twin = await contender.start(scope, place, parent);
  for (const warmed of [line, twin, line, twin]) await bulkBout(warmed, OTHERS);
  const restingMB = await line.residentMB();
  line.order({ do: 'fill', ...STALLED });
  const { taken } = await line.hear<Filled>('filled streams');
  const filledMB = await line.residentMB();
  return {
    kept: await compared(line, twin),
    MB: Math.max(...filledMB.map((filled, index) => filled - (restingMB[index] ?? 0))),
    'taken MB': taken / 1e6,
  };
}

/** The median of what `line` moves to what `twin` moves right before or after. */
async function compared(line: ContenderLine, twin: ContenderLine): Promise<number> {
  const ratios: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const moved = new Map<ContenderLine, number>();
    for (const one of round % 2 === 0 ? [line, twin] : [twin, line]) {
      moved.set(one, (await bulkBout(one, OTHERS))['MiB/s'] ?? Number.NaN);
    }
    ratios.push((moved.get(line) ?? Number.NaN) / (moved.get(twin) ?? Number.NaN));
  }
  return median(ratios);
}
