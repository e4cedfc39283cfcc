/** One bout: bulk alone, then a thousand streams that nobody reads, then the same bulk beside them. */
import type { Figures } from '../contest.ts';
import { bulkBout } from './bulk.ts';
import type { Contender } from './contenders.ts';
import type { Filled } from './order.ts';
import type { Place } from './place.ts';

const STALLED = { streams: 1_000, maxBytes: 512 * 1024 };
const OTHERS = { streams: 8, settleMs: 500, windowMs: 2_000, pings: false };

/** `kept`: throughput beside them to throughput before; `MB`: the greatest growth of operator, hub or agent; `taken MB` by all of them. */
export async function stalledBout(
  contender: Contender,
  scope: AsyncDisposableStack,
  place: Place,
  parent: string,
): Promise<Figures> {
  const line = await contender.start(scope, place, parent);
  await bulkBout(line, OTHERS);
  const before = await bulkBout(line, OTHERS);
  const restingMB = await line.residentMB();
  line.order({ do: 'fill', ...STALLED });
  const { taken } = await line.hear<Filled>('filled streams');
  const filledMB = await line.residentMB();
  const beside = await bulkBout(line, OTHERS);
  return {
    kept: (beside['MiB/s'] ?? Number.NaN) / (before['MiB/s'] ?? Number.NaN),
    MB: Math.max(...filledMB.map((filled, index) => filled - (restingMB[index] ?? 0))),
    'taken MB': taken / 1e6,
  };
}
