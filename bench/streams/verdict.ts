/** The promise about peers: none is ahead of ours both in throughput and in how long a call takes beside bulk, on either line. */
import type { Row } from '../measure.ts';

/** What is compared on each line: the throughput of 64 streams and the p99 of a call beside them. */
const LINES = [
  { line: 'unlimited', throughput: 'throughput, 64 streams', latency: 'call p99 beside 64 bulk, unlimited' },
  {
    line: '100 Mbit/s',
    throughput: 'throughput beside 64 bulk, 100 Mbit/s',
    latency: 'call p99 beside 64 bulk, 100 Mbit/s',
  },
] as const;

/** One row for each line on which both were measured. A peer that fails a work is not ahead in it. */
export function behindInBoth(rows: readonly Row[]): Row[] {
  return LINES.flatMap(({ line, throughput, latency }) => {
    const speeds = rows.find(({ name }) => name === throughput);
    const waits = rows.find(({ name }) => name === latency);
    return speeds === undefined || waits === undefined ? [] : [verdict(line, speeds, waits)];
  });
}

function verdict(line: string, speeds: Row, waits: Row): Row {
  const ahead = Object.keys(speeds.peers ?? {}).filter((peer) => {
    const isFaster = (speeds.peers?.[peer] ?? Number.NaN) >= speeds.ours;
    const isSooner = (waits.peers?.[peer] ?? Number.NaN) <= waits.ours;
    return isFaster && isSooner;
  });
  return {
    name: `peers ahead in throughput and in call p99, ${line}`,
    unit: 'peers',
    ours: ahead.length,
    baseline: Number.NaN,
    ratio: Number.NaN,
    limit: 0,
    holds: ahead.length === 0 && !Number.isNaN(speeds.ours) && !Number.isNaN(waits.ours),
  };
}
