/** The works of the group. docs/reference/benchmarks.md explains each. */
import type { Contest, Figure, Figures } from '../contest.ts';
import { median, type Promised } from '../measure.ts';
import { bulkBout } from './bulk.ts';
import { cutBout } from './cut.ts';
import type { ContenderLine } from './line.ts';
import type { Opened } from './order.ts';
import { modelledLine, UNLIMITED } from './place.ts';
import { stalledBout } from './stalled.ts';
import { eachOnNewLines, onStandingLines, type PlaceOf } from './teams.ts';

const THROUGHPUT = { settleMs: 300, windowMs: 2_000, pings: false };
const BESIDE = { settleMs: 1_000, windowMs: 3_000, pings: true };
const OPENINGS = 300;
const atLeast = (kind: Promised['kind'], limit: number): Promised => ({ direction: 'at-least', kind, limit });
const atMost = (limit: number): Promised => ({ direction: 'at-most', kind: 'absolute', limit });

const unlimited: PlaceOf = async () => UNLIMITED;

/** How fast, at what cost, and shared how. */
export function throughput(parent: string, streams: number): Contest {
  const who = streams === 1 ? '1 stream' : `${streams} streams`;
  const figures: Figure[] = [
    { name: `throughput, ${who}`, key: 'MiB/s', unit: 'MiB/s', promise: atLeast('ratio', 0.8) },
    { name: `CPU, ${who}`, key: 's/GiB', unit: 's/GiB' },
  ];
  if (streams > 1) figures.push({ name: `fairness, ${who}`, key: 'Jain', unit: 'Jain', promise: atLeast('absolute', 0.95) });
  const bout = (line: ContenderLine) => bulkBout(line, { streams, ...THROUGHPUT });
  return { name: `throughput, ${who}`, figures, prepare: (takesPart) => onStandingLines(parent, unlimited, bout, takesPart) };
}

/** How long calls and keystrokes take while bulk fills the line. */
export function besideBulk(parent: string, streams: number, where: 'unlimited' | '100 Mbit/s'): Contest {
  const name = `beside ${streams} bulk, ${where}`;
  const promise = streams === 64 && where === '100 Mbit/s' ? { promise: atMost(15) } : {};
  return {
    name,
    figures: [
      { name: `call p50 ${name}`, key: 'call p50', unit: 'ms' },
      { name: `call p99 ${name}`, key: 'call p99', unit: 'ms', ...promise },
      { name: `keystroke p50 ${name}`, key: 'key p50', unit: 'ms' },
      { name: `keystroke p99 ${name}`, key: 'key p99', unit: 'ms', ...promise },
      { name: `throughput ${name}`, key: 'MiB/s', unit: 'MiB/s' },
    ],
    prepare: (takesPart) => {
      const placeOf = where === 'unlimited' ? unlimited : modelledLine;
      return onStandingLines(parent, placeOf, (line) => bulkBout(line, { streams, ...BESIDE }), takesPart);
    },
  };
}

/** From the order to open to the first byte back. */
export function opening(parent: string): Contest {
  return {
    name: 'open to first byte',
    figures: [{ name: 'open to first byte', key: 'ms', unit: 'ms' }],
    prepare: (takesPart) => onStandingLines(parent, unlimited, openBout, takesPart),
  };
}

/** What streams that nobody reads do to the others, and to memory. */
export function stalled(parent: string): Contest {
  return {
    name: 'beside 1000 stalled',
    figures: [
      {
        name: 'throughput beside 1000 stalled to a line without',
        key: 'kept',
        unit: 'ratio',
        promise: atLeast('absolute', 0.95),
      },
      { name: 'memory of 1000 stalled, greatest growth', key: 'MB', unit: 'MB', promise: atMost(STALLED_LIMIT_MB) },
      { name: 'taken by 1000 stalled', key: 'taken MB', unit: 'MB' },
    ],
    prepare: (takesPart) => eachOnNewLines(parent, unlimited, stalledBout, takesPart),
  };
}

/** A connection dies under a transfer. */
export function cut(parent: string): Contest {
  return {
    name: 'recovery after a cut',
    figures: [{ name: 'recovery after a cut', key: 'ms', unit: 'ms' }],
    prepare: (takesPart) => eachOnNewLines(parent, unlimited, cutBout, takesPart),
  };
}

/** The pool of a session, and what objects and buffers of 1,000 streams may cost on top. */
const STALLED_LIMIT_MB = 67 + 33;

async function openBout(line: ContenderLine): Promise<Figures> {
  line.order({ do: 'open', times: OPENINGS });
  const { opened } = await line.hear<Opened>('openings');
  return { ms: median(opened) };
}
