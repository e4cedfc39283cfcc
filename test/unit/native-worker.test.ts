import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { epollThreads } from '../support/inspect.ts';
import { describeNative } from '../support/native.ts';

const PROGRAM = join(import.meta.dirname, '../support/programs/native-worker.ts');
const NATIVE = join(import.meta.dirname, '../../native/index.ts');

describeNative('the add-on in worker threads', (api) => {
  test('has a thread of its own in each and takes it along when the worker is ended with waits pending', async () => {
    const pidfd = api.pidfdOpen(process.pid);
    const wait = api.pidfdWait(pidfd);
    for (let round = 0; round < 5; round++) {
      const workers = Array.from({ length: 3 }, () => new Worker(PROGRAM));
      await Promise.all(workers.map((worker) => once(worker, 'message')));
      expect(epollThreads()).toBe(4);
      await Promise.all(workers.map((worker) => worker.terminate()));
      expect(epollThreads()).toBe(1);
    }
    api.pidfdClose(pidfd);
    await expect(wait).rejects.toMatchObject({ code: 'ECANCELED' });
  });
});

describeNative('a process with the add-on', () => {
  const run = (script: string): ReturnType<typeof spawnSync> =>
    spawnSync(
      process.execPath,
      ['--input-type=module', '-e', `import { requireNative } from ${JSON.stringify(NATIVE)}; ${script}`],
      {
        encoding: 'utf8',
        timeout: 10_000,
      },
    );

  test('ends by itself while it waits for another to end', () => {
    const { status, stderr } = run('const api = requireNative(); api.pidfdWait(api.pidfdOpen(process.ppid));');
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  });

  test('ends by process.exit with a wait pending', () => {
    const { status } = run('const api = requireNative(); api.pidfdWait(api.pidfdOpen(process.ppid)); process.exit(7);');
    expect(status).toBe(7);
  });
});
