/**
 * A TCP proxy at the far end of a long way: it reads from `port` no faster than `bytesPerMs`, and passes everything on `delayMs` late. What it
 * has not read fills the kernel's buffers, and then those of who writes.
 */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { endWithBenchmark, programArgs, tell } from '../../../bench/programs.ts';

const TICK_MS = 1;
/** What it may catch up with in one go when it was late itself. */
const BURST_MS = 4;

const { port, bytesPerMs, delayMs } = programArgs<{ port: number; bytesPerMs: number; delayMs: number }>();

endWithBenchmark();
const server = createServer({ noDelay: true }, (near) => {
  const far = connect({ port, host: '127.0.0.1', noDelay: true });
  const later = (to: Socket, bytes: Buffer): void => void setTimeout(() => to.destroyed || to.write(bytes), delayMs);
  let budget = 0;
  let lastAt = performance.now();
  const ticks = setInterval(() => {
    const now = performance.now();
    budget = Math.min(budget + (now - lastAt) * bytesPerMs, BURST_MS * bytesPerMs);
    lastAt = now;
    if (budget > 0) far.resume();
  }, TICK_MS);
  far.pause();
  far.on('data', (bytes) => {
    later(near, bytes);
    budget -= bytes.length;
    if (budget <= 0) far.pause();
  });
  near.on('data', (bytes) => later(far, bytes));
  for (const [end, other] of [[near, far] as const, [far, near] as const]) {
    end.on('error', () => {});
    end.on('close', () => {
      clearInterval(ticks);
      other.destroy();
    });
  }
}).listen(0, '127.0.0.1');
await once(server, 'listening');
// SAFETY: it listens on TCP.
tell({ port: (server.address() as AddressInfo).port });
