/**
 * A connection that was ended while bytes lay unsent in the kernel, as `ws` ends one whose other side said Close and reads nothing, is sendable to
 * the kernel at all times. Who waited for less to lie unsent was woken at once, looked, and waited again: 24,000 times a second, for most of a processor.
 */
import { once } from 'node:events';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { loadNative } from '../../native/index.ts';
import { watchUnsent } from '../../native/unsent.ts';

const STAYS_BYTES = 4096;
const native = loadNative();
if (!native.available) console.log(`skipped: ${native.reason}`);

it.skipIf(!native.available)(
  'nobody is woken for a connection that has ended with bytes unsent',
  { timeout: 20_000 },
  async () => {
    const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    // SAFETY: it listens on a port.
    const peer = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1').pause();
    try {
      const accepted: unknown[] = await once(server, 'connection');
      // SAFETY: what net.Server says of a connection.
      const socket = accepted[0] as net.Socket;
      for (const end of [peer, socket]) end.on('error', () => {});
      const unsent = watchUnsent(socket);
      if ('reason' in unsent) throw new Error(unsent.reason);
      // Until the peer's buffer is full and what was written last stays here; none of it waits in Node, which would not end the connection then.
      for (let looks = 0, before = 0; looks < 30; looks++) {
        if (unsent.bytes <= STAYS_BYTES || unsent.bytes !== before) looks = 0;
        before = unsent.bytes;
        if (before <= STAYS_BYTES && socket.writableLength === 0) socket.write(Buffer.alloc(16 * 1024));
        await sleep(10);
      }
      expect(socket.writableLength).toBe(0);
      const wakes = { before: 0, after: 0 };
      unsent.whenBelow(1024, () => (wakes.before += 1));
      socket.end();
      await sleep(50);
      expect(unsent.bytes).toBeGreaterThan(STAYS_BYTES);
      const again = (): void => {
        wakes.after += 1;
        if (wakes.after < 100) unsent.whenBelow(1024, again);
      };
      unsent.whenBelow(1024, again);
      await sleep(200);
      expect(wakes).toEqual({ before: 0, after: 0 });
      socket.destroy();
    } finally {
      peer.destroy();
      server.close();
    }
  },
);
