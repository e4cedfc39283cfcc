/** One bout of bulk over a line: how fast, how fair, at what cost, and how long others wait beside it. */
import type { Figures } from '../contest.ts';
import { median } from '../measure.ts';
import type { ContenderLine } from './line.ts';
import type { Poured, PourOrder } from './order.ts';

const MIB = 1024 ** 2;

interface Counted {
  readonly counts: readonly number[];
  readonly at: number;
}

/**
 * `MiB/s`, `s/GiB` and `Jain` over the window, by what the sink got; `call` and `key` with `p50` and `p99` in milliseconds.
 * @throws Error when what was written does not arrive
 */
export async function bulkBout(line: ContenderLine, order: Omit<PourOrder, 'do'>): Promise<Figures> {
  line.order({ do: 'pour', ...order });
  const before = await look(line, 'beginning of bulk');
  const after = await look(line, 'end of bulk');
  const { written, calls, keystrokes } = await line.hear<Poured>('end of what was written');
  await line.askSink({ until: written }, 'last byte at the sink');

  const shares = after.counts.map((count, index) => count - (before.counts[index] ?? 0));
  const bytes = shares.reduce((sum, share) => sum + share, 0);
  return {
    'MiB/s': bytes / MIB / ((after.at - before.at) / 1000),
    's/GiB': (after.cpuSeconds - before.cpuSeconds) / (bytes / 1024 ** 3),
    ...(shares.length === order.streams && { Jain: jain(shares) }),
    ...(order.pings && {
      'call p50': median(calls),
      'call p99': p99(calls),
      'key p50': median(keystrokes),
      'key p99': p99(keystrokes),
    }),
  };
}

async function look(line: ContenderLine, what: string): Promise<Counted & { cpuSeconds: number }> {
  await line.hear(what);
  const [counted, cpuSeconds] = await Promise.all([line.askSink<Counted>({ count: true }, 'counts'), line.cpuSeconds()]);
  return { ...counted, cpuSeconds };
}

/** Of n shares: 1 when all are the same, 1/n when one has all. */
function jain(shares: readonly number[]): number {
  const sum = shares.reduce((total, share) => total + share, 0);
  const squares = shares.reduce((total, share) => total + share ** 2, 0);
  return sum ** 2 / (shares.length * squares);
}

/** The duration that one in a hundred exceeds; of fewer than a hundred, the longest. */
function p99(durations: readonly number[]): number {
  return durations.toSorted((a, b) => a - b)[Math.ceil(durations.length * 0.99) - 1] ?? Number.NaN;
}
