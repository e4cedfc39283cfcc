/** The promise about peers: none is ahead of ours both in throughput and in how long a call takes beside it. */
import type { Row } from '../measure.ts';

const THROUGHPUT = 'throughput, 64 streams';
const LATENCY = 'call p99 beside 64 bulk, 100 Mbit/s';

/** One row where both were measured, none otherwise. A peer that fails a work is not ahead in it. */
export function behindInBoth(rows: readonly Row[]): Row[] {
  const throughput = rows.find(({ name }) => name === THROUGHPUT);
  const latency = rows.find(({ name }) => name === LATENCY);
  if (throughput === undefined || latency === undefined) return [];
  const peers = Object.keys(throughput.peers ?? {});
  const ahead = peers.filter((peer) => {
    const isFaster = (throughput.peers?.[peer] ?? Number.NaN) >= throughput.ours;
    const isSooner = (latency.peers?.[peer] ?? Number.NaN) <= latency.ours;
    return isFaster && isSooner;
  });
  return [
    {
      name: 'peers ahead in throughput and in call p99',
      unit: 'peers',
      ours: ahead.length,
      baseline: Number.NaN,
      ratio: Number.NaN,
      limit: 0,
      holds: ahead.length === 0 && !Number.isNaN(throughput.ours) && !Number.isNaN(latency.ours),
    },
  ];
}
