/** Streams that nobody reads. */
import { once } from 'node:events';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Filled, FillOrder } from '../order.ts';
import type { Tunnel } from './tunnel.ts';

const CHUNK = Buffer.alloc(16 * 1024, 0x5a);
/** So long none of the streams may have taken anything before all of them count as full. */
const QUIET_MS = 500;

export async function fill(tunnel: Tunnel, { streams, maxBytes }: FillOrder): Promise<Filled> {
  let lastTakenAt = performance.now();
  let taken = 0;
  const write = async (stream: Duplex): Promise<void> => {
    for (let written = 0; written < maxBytes; written += CHUNK.length) {
      if (!stream.write(CHUNK)) await once(stream, 'drain');
      lastTakenAt = performance.now();
      taken += CHUNK.length;
    }
  };
  for (let opened = 0; opened < streams; opened++) {
    const stream = await tunnel.open('s');
    void write(stream);
  }
  while (performance.now() - lastTakenAt < QUIET_MS) await sleep(QUIET_MS);
  return { taken };
}
