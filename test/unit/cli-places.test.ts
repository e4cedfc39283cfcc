import { mkdtemp, rm, stat } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { parsePlace, withName } from '../../cli/copy-place.ts';
import { listenLocally, parseForward, parseLocalAddress } from '../../cli/local-address.ts';
import { Progress, progressText } from '../../cli/progress.ts';

describe('where a port of this machine leads', () => {
  it.each([
    ['8080:80', { local: { host: '127.0.0.1', port: 8080 }, port: 80 }],
    ['0:4294967294', { local: { host: '127.0.0.1', port: 0 }, port: 4_294_967_294 }],
    ['0.0.0.0:8080:80', { local: { host: '0.0.0.0', port: 8080 }, port: 80 }],
    ['[::1]:8080:80', { local: { host: '::1', port: 8080 }, port: 80 }],
    ['/run/web.sock:80', { local: { path: '/run/web.sock' }, port: 80 }],
    ['./a:b.sock:80', { local: { path: './a:b.sock' }, port: 80 }],
  ])('is %s', (written, means) => expect(parseForward(written)).toEqual(means));

  it.each(['80', ':80', '8080:', '8080:web', '65536:80', '1:2:3:80', '8080:4294967295'])('is not %s', (written) => {
    expect(() => parseForward(written)).toThrow(/write|no vsock port/i);
  });

  it('says an address as it is written', () => expect(parseLocalAddress('[::1]:5000')).toEqual({ host: '::1', port: 5000 }));

  it('takes the place of a socket that nobody listens on, and of no other', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'fl-places-'));
    const path = join(directory, 's');
    const [first, second] = [createServer(), createServer()];
    try {
      expect(await listenLocally(first, { path })).toBe(path);
      expect((await stat(path)).mode & 0o777).toBe(0o600);
      await expect(listenLocally(second, { path })).rejects.toMatchObject({ code: 'CONFLICT' });
    } finally {
      first.close();
      await rm(directory, { recursive: true, force: true });
    }
  });

  it('tells a port that is taken with its number', async () => {
    const [first, second] = [createServer(), createServer()];
    const where = await listenLocally(first, { host: '127.0.0.1', port: 0 });
    try {
      await expect(listenLocally(second, parseLocalAddress(where))).rejects.toThrow(`could not listen on ${where}`);
    } finally {
      first.close();
    }
  });
});

describe('what is copied', () => {
  it.each([
    ['web:/etc/hostname', { kind: 'guest', vm: 'web', path: '/etc/hostname' }],
    ['web:/a:b', { kind: 'guest', vm: 'web', path: '/a:b' }],
    ['./web:x', { kind: 'local', path: './web:x' }],
    ['/tmp/web:x', { kind: 'local', path: '/tmp/web:x' }],
    ['-', { kind: 'standard' }],
  ])('is %s', (written, means) => expect(parsePlace(written)).toEqual(means));

  it('is no relative path in a guest', () => expect(() => parsePlace('web:x')).toThrow(/write web:\/PATH, or \.\/web:x/));

  it('keeps its name in a directory, and has none on standard input', () => {
    expect(withName('/srv/', { kind: 'local', path: 'a/b' })).toBe('/srv/b');
    expect(withName('/srv/c', { kind: 'local', path: 'a/b' })).toBe('/srv/c');
    expect(() => withName('/srv/', { kind: 'standard' })).toThrow(/no name/);
    expect(() => withName('/srv/', { kind: 'local', path: '..' })).toThrow(/no name/);
  });
});

describe('progress', () => {
  it('has share, sizes, rate and time left where the whole is known, and what there is where not', () => {
    const at = { label: 'web:/f', bytes: 1024 ** 2, elapsedMs: 500 };
    expect(progressText({ ...at, totalBytes: 4 * 1024 ** 2 })).toBe('web:/f  25%  1.0 MiB of 4.0 MiB  2.0 MiB/s  2s');
    expect(progressText({ ...at, totalBytes: undefined })).toBe('web:/f  1.0 MiB  2.0 MiB/s');
    expect(progressText({ ...at, bytes: 0, elapsedMs: 0, totalBytes: 10 })).toBe('web:/f  0%  0 B of 10 B  0 B/s');
  });

  it('is drawn on a terminal and nowhere else, and leaves its line empty', async () => {
    const draw = async (isTTY: boolean): Promise<string> => {
      const stderr = Object.assign(new PassThrough(), { isTTY });
      {
        using progress = new Progress({ stderr, label: 'f', totalBytes: 2 });
        const source = (async function* () {
          yield new Uint8Array(2);
        })();
        for await (const _ of progress.count(source));
        expect(progress.bytes).toBe(2);
      }
      return String(stderr.read() ?? '');
    };
    expect(await draw(false)).toBe('');
    const shown = await draw(true);
    expect(shown).toContain('f  100%');
    expect(shown.endsWith('\r\u001b[K')).toBe(true);
  });
});
