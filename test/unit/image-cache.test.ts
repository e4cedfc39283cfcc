import { mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { artefacts, cacheDirectory, currentVersion, publish } from '../../cli/image/cache.ts';

describe('the cache', () => {
  test('is where FAIRLEAD_CACHE_DIR says', () => {
    expect(cacheDirectory({ FAIRLEAD_CACHE_DIR: '/somewhere' })).toBe('/somewhere');
    expect(cacheDirectory({})).toMatch(/\/\.cache$/);
  });

  test('shows a version only when it is whole, and keeps nothing of one that failed', async () => {
    await using cache = await temporaryFolder();
    const failing = publish({
      cacheDir: cache.path,
      name: 'thing',
      key: '1',
      fill: async (directory) => {
        await writeFile(join(directory, 'half'), '');
        expect(currentVersion(cache.path, 'thing')).toBeUndefined();
        throw new Error('the mirror went away');
      },
    });
    await expect(failing).rejects.toThrow('the mirror went away');
    expect(await readdir(join(cache.path, 'thing'))).toEqual([]);
  });

  test('fills a version once, and makes it current', async () => {
    await using cache = await temporaryFolder();
    const version = { cacheDir: cache.path, name: 'thing', key: '1' };
    const first = await publish({ ...version, fill: (directory) => writeFile(join(directory, 'content'), 'first') });
    const again = await publish({ ...version, fill: () => Promise.reject(new Error('must not be called')) });
    expect(again).toBe(first);
    expect(await readFile(join(currentVersion(cache.path, 'thing') ?? '', 'content'), 'utf8')).toBe('first');
    await publish({ ...version, key: '2', fill: (directory) => writeFile(join(directory, 'content'), 'second') });
    expect(await readFile(join(currentVersion(cache.path, 'thing') ?? '', 'content'), 'utf8')).toBe('second');
  });

  test('lets two builders of one version work at once, and keeps the first to finish', async () => {
    await using cache = await temporaryFolder();
    const bothStarted = Promise.withResolvers<void>();
    let started = 0;
    const build = (): Promise<string> =>
      publish({
        cacheDir: cache.path,
        name: 'thing',
        key: '1',
        fill: async (directory) => {
          started += 1;
          if (started === 2) bothStarted.resolve();
          await bothStarted.promise;
          await writeFile(join(directory, 'content'), 'whole');
        },
      });
    const [one, other] = await Promise.all([build(), build()]);
    expect(one).toBe(other);
    expect((await readdir(join(cache.path, 'thing'))).sort()).toEqual(['1', 'current']);
  });

  test('sweeps away what no run has touched for a day', async () => {
    await using cache = await temporaryFolder();
    const fill = async (): Promise<void> => {};
    const old = await publish({ cacheDir: cache.path, name: 'thing', key: 'old', fill });
    await publish({ cacheDir: cache.path, name: 'thing', key: 'recent', fill });
    const twoDaysAgo = Date.now() / 1000 - 2 * 86_400;
    await utimes(old, twoDaysAgo, twoDaysAgo);
    await publish({ cacheDir: cache.path, name: 'thing', key: 'new', fill });
    expect((await readdir(join(cache.path, 'thing'))).sort()).toEqual(['current', 'new', 'recent']);
  });

  test('calls what is not there undefined', async () => {
    await using cache = await temporaryFolder();
    expect(artefacts(cache.path)).toMatchObject({ kernel: undefined, initrd: undefined, qemu10: undefined, rigRoot: undefined });
  });
});

async function temporaryFolder(): Promise<AsyncDisposable & { path: string }> {
  const path = await mkdtemp(join(tmpdir(), 'fairlead-cache-'));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}
