/** The promise about peers: none is ahead of ours both in throughput and in how long a call takes beside bulk, on either line. */
import type { Row } from '../measure.ts';

const THROUGHPUT = 'throughput ';
const LATENCY = 'call p99 ';

/**
 * One row for each number of streams and line that both were measured of, beside calls; a peer's figure is 1 where it is ahead in both. A peer
 * that fails a work is not ahead in it.
 */
export function behindInBoth(rows: readonly Row[]): Row[] {
  return rows.flatMap((waits) => {
    if (!waits.name.startsWith(LATENCY)) return [];
    const where = waits.name.slice(LATENCY.length);
    const speeds = rows.find(({ name }) => name === THROUGHPUT + where);
    return speeds === undefined ? [] : [verdict(where, speeds, waits)];
  });
}

function verdict(where: string, speeds: Row, waits: Row): Row {
  const peers: Record<string, number> = {};
  for (const [peer, speed] of Object.entries(speeds.peers ?? {})) {
    const wait = waits.peers?.[peer] ?? Number.NaN;
    peers[peer] = speed >= speeds.ours && wait <= waits.ours ? 1 : 0;
  }
  const ahead = Object.values(peers).reduce((sum, one) => sum + one, 0);
  return {
    name: `peers ahead in throughput and in call p99 ${where}`,
    unit: 'peers',
    ours: ahead,
    baseline: Number.NaN,
    ratio: Number.NaN,
    limit: 0,
    holds: ahead === 0 && !Number.isNaN(speeds.ours) && !Number.isNaN(waits.ours),
    peers,
  };
}
