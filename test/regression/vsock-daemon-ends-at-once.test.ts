/** A vhost-device-vsock that ended before anybody listened for its end was waited for until the time was over, and its end not told. */
import { pbkdf2 } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { startDaemon } from '../../agent/streams/vhost-user-daemon.ts';

const ATTEMPTS = 3;
/** As many as libuv has. */
const THREADS = 4;
/** Some 20 ms. */
const ITERATIONS = 20_000;

it('a vsock daemon that ends at once is told at once, also on a busy machine', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'fl-'));
  using _ = busyThreads();
  try {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const paths = { vhost: join(directory, 'vhost'), uds: join(directory, 'uds'), log: join(directory, 'log') };
      await expect(startDaemon({ vm: 'web', binary: '/bin/false', cid: 3, paths })).rejects.toThrow('ended with exit code 1');
    }
  } finally {
    await rm(directory, { recursive: true });
  }
});

/** Keeps Node's threads occupied, so that whatever waits for the file system waits longer than a child lives. */
function busyThreads(): Disposable {
  let isOver = false;
  const occupy = (): void => {
    if (!isOver) pbkdf2('word', 'salt', ITERATIONS, 64, 'sha512', occupy);
  };
  for (let thread = 0; thread < THREADS; thread++) occupy();
  return {
    [Symbol.dispose]() {
      isOver = true;
    },
  };
}
