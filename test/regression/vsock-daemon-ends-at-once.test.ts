/** A vhost-device-vsock that ended before anybody listened for its end was waited for until the time was over, and its end not told. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { startDaemon } from '../../agent/streams/vhost-user-daemon.ts';

const ATTEMPTS = 20;
const TURN_MS = 10;

it('a vsock daemon that ends at once is told at once, also on a busy machine', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'fl-'));
  using _ = slowTurns();
  try {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const paths = { vhost: join(directory, 'vhost'), uds: join(directory, 'uds'), log: join(directory, 'log') };
      await expect(startDaemon({ vm: 'web', binary: '/bin/false', cid: 3, paths })).rejects.toThrow('ended with exit code 1');
    }
  } finally {
    await rm(directory, { recursive: true });
  }
});

/** Makes each turn of the event loop long, so that the child's end is there in the turn after its start. */
function slowTurns(): Disposable {
  let next: NodeJS.Immediate;
  const turn = (): void => {
    const until = performance.now() + TURN_MS;
    while (performance.now() < until);
    next = setImmediate(turn);
  };
  turn();
  return { [Symbol.dispose]: () => clearImmediate(next) };
}
