/** Bulk: as much as the streams take, and beside it calls and keystrokes. */
import { once } from 'node:events';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Poured, PourOrder } from '../order.ts';
import { exchange } from './exchange.ts';
import type { Tunnel } from './tunnel.ts';

const CHUNK = Buffer.alloc(64 * 1024, 0x5a);
const KEYSTROKE = Buffer.from('k');
/** Between two pings of a kind: they are to be a small part of the load. */
const PING_PAUSE_MS = 5;

interface Bulk {
  readonly streams: Duplex[];
  keystrokes: Duplex | undefined;
  written: number;
}

const bulks = new WeakMap<Tunnel, Bulk>();

export async function pour(tunnel: Tunnel, order: PourOrder, tell: (news: object) => void): Promise<Poured> {
  const bulk = bulks.get(tunnel) ?? { streams: [], keystrokes: undefined, written: 0 };
  bulks.set(tunnel, bulk);
  while (bulk.streams.length < order.streams) bulk.streams.push(await tunnel.open('b'));
  const keystrokes = (bulk.keystrokes ??= await tunnel.open('e'));

  const stop = new AbortController();
  const writers = bulk.streams.slice(0, order.streams).map((stream) => write(stream, bulk, stop.signal));
  await sleep(order.settleMs);
  tell({ opened: true });
  const over = AbortSignal.timeout(order.windowMs);
  const pings = order.pings ? [repeat(() => tunnel.call(), over), repeat(() => exchange(keystrokes, KEYSTROKE), over)] : [];
  if (!over.aborted) await once(over, 'abort');
  tell({ closed: true });
  const [calls = [], keys = []] = await Promise.all(pings);
  stop.abort();
  await Promise.all(writers);
  return { written: bulk.written, calls, keystrokes: keys };
}

/** Ends when the signal has fired and what was written last is taken. */
async function write(stream: Duplex, bulk: Bulk, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    bulk.written += CHUNK.length;
    if (!stream.write(CHUNK)) await once(stream, 'drain');
  }
}

/** Milliseconds of each; what is under way when the time is over counts. */
async function repeat(ping: () => Promise<void>, over: AbortSignal): Promise<number[]> {
  const durations: number[] = [];
  while (!over.aborted) {
    const before = performance.now();
    await ping();
    durations.push(performance.now() - before);
    await sleep(PING_PAUSE_MS);
  }
  return durations;
}
