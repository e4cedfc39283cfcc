/** New streams, one after another, each to its first byte back. */
import type { Opened, OpenOrder } from '../order.ts';
import { exchange } from './exchange.ts';
import type { Tunnel } from './tunnel.ts';

const BYTE = Buffer.from('1');

export async function openings(tunnel: Tunnel, { times }: OpenOrder): Promise<Opened> {
  if (!tunnel.hasStreams) throw new Error('it has one flow and no streams');
  const opened: number[] = [];
  for (let done = 0; done < times; done++) {
    const before = performance.now();
    const stream = await tunnel.open('e');
    await exchange(stream, BYTE);
    opened.push(performance.now() - before);
    stream.end();
  }
  return { opened };
}
