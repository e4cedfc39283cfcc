/** Whoever may only look may have a snapshot verified, which reads all of it: asked for many times at once, that took the host's disk and the agent's one thread. */
import { readdir, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { parseParams } from '../../shared/protocol/validate.ts';
import { snapshotsOf } from '../support/snapshots.ts';
import { spec, testHost, whyNoQemu } from '../support/vm.ts';

const missing = whyNoQemu();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

const CALLS = 8;

async function openFilesBelow(directory: string): Promise<number> {
  const links = (await readdir('/proc/self/fd')).map((fd) => readlink(join('/proc/self/fd', fd)).catch(() => ''));
  return (await Promise.all(links)).filter((path) => path.startsWith(directory)).length;
}

test.skipIf(missing !== undefined)('snapshots are verified one after the other, and one that waits can be given up', async () => {
  await using host = await testHost();
  await host.manager.run(spec({ name: 'web', memory: { bytes: '64MiB', backing: 'file' } }));
  const snapshots = snapshotsOf(host);
  await snapshots.create(parseParams('snapshot.create', { vm: 'web', name: 'one', mode: 'instant' }), {});
  const leaving = new AbortController();
  const calls = Array.from({ length: CALLS }, () => snapshots.verify({ snapshot: 'one' }, {}));
  const givenUp = snapshots.verify({ snapshot: 'one' }, { signal: leaving.signal });
  leaving.abort();
  await expect(givenUp).rejects.toMatchObject({ code: 'CANCELLED' });
  const over = new AbortController();
  const all = Promise.all(calls).finally(() => {
    over.abort();
  });
  let most = 0;
  for (; !over.signal.aborted; await setImmediate())
    most = Math.max(most, await openFilesBelow(join(host.options.stateDir, 'snapshots')));
  expect((await all).map(({ ok }) => ok)).toEqual(Array.from({ length: CALLS }, () => true));
  expect(most).toBe(1);
});

test.skipIf(missing !== undefined)(
  'a snapshot that is verified without end can be removed, and who verified it is told',
  async () => {
    await using host = await testHost();
    await host.manager.run(spec({ name: 'web', memory: { bytes: '256MiB', backing: 'file' } }));
    const snapshots = snapshotsOf(host);
    await snapshots.create(parseParams('snapshot.create', { vm: 'web', name: 'one', mode: 'instant' }), {});
    const ends: Promise<string>[] = [];
    const verify = () =>
      snapshots.verify({ snapshot: 'one' }, {}).then(
        () => 'verified',
        ({ code }) => String(code),
      );
    for (let count = 0; count < CALLS; count++) ends.push(verify());
    while ((await openFilesBelow(join(host.options.stateDir, 'snapshots'))) === 0) await setImmediate();
    expect(await snapshots.remove({ snapshot: 'one' })).toEqual({ removed: true });
    expect(new Set(await Promise.all(ends))).toEqual(new Set(['NOT_FOUND']));
  },
);
