/** What releases of the agent are made of, and what a host looks at before it leaves the one that it has. */
import { spawn } from 'node:child_process';
import { mkdtempDisposable, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { endOrphan, noteChild } from '../../agent/launcher/orphan.ts';
import { releaseDirectory } from '../../agent/launcher/record.ts';
import { identityOf } from '../../agent/process-identity.ts';
import { HostFaults, SimScript } from '../../agent/sim/script.ts';
import { SimUpdates } from '../../agent/sim/sim-updates.ts';
import { Releases } from '../../agent/update/releases.ts';
import { readBootId } from '../../agent/vm/host/host-info.ts';
import { filesOfTar, tarOf } from '../../shared/node/tar.ts';
import { parseWith } from '../../shared/protocol/parse-with.ts';
import { whyNot } from '../../shared/protocol/release.ts';
import { archiveOf } from '../support/launched-host.ts';

const { signal } = new AbortController();
const LIMITS = { maxFileBytes: 1024 ** 2, maxFiles: 100 };
const DIGEST = `sha256:${'a'.repeat(64)}`;
const scratch = () => mkdtempDisposable(join(tmpdir(), 'fl-release-'));
const file = (path: string, content = '') => ({ path, content: Buffer.from(content), isExecutable: false });

describe('an archive', () => {
  it('gives back the files that went into it, in whatever pieces it comes', async () => {
    const files = [
      file('a', 'x'.repeat(513)),
      file(`${'d/'.repeat(60)}deep`, 'deep'),
      { ...file('run', '#!'), isExecutable: true },
      file('empty'),
    ];
    const bytes = Buffer.concat([...tarOf(files)]);
    for (const size of [1, 7, 512, bytes.length]) {
      const read = await Array.fromAsync(filesOfTar(pieces(bytes, size), LIMITS));
      expect(read.map((one) => ({ ...one, content: String(one.content) }))).toEqual(
        files.map((one) => ({ ...one, content: String(one.content) })),
      );
    }
  });

  it.each([
    ['leads out of the directory', (header: Buffer) => header.write('../../etc/passwd\0', 0), /no plain relative name/],
    ['begins at the root', (header: Buffer) => header.write('/etc/passwd\0', 0), /no plain relative name/],
    ['is a link', (header: Buffer) => header.write('2', 156), /no regular file/],
    ['is a device', (header: Buffer) => header.write('3', 156), /no regular file/],
    ['is too long', (header: Buffer) => header.write('77777777777', 124), /bytes/],
    ['has a size that is no number', (header: Buffer) => header.write('zzz', 124), /no number/],
  ])('is refused where a name in it %s', async (_, spoil, message) => {
    const bytes = Buffer.concat([...tarOf([file('name', 'content')])]);
    spoil(bytes);
    bytes.fill(' ', 148, 156);
    const sum = bytes.subarray(0, 512).reduce((total, byte) => total + byte, 0);
    bytes.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
    await expect(Array.fromAsync(filesOfTar(pieces(bytes, 512), LIMITS))).rejects.toThrow(message);
  });

  it('is refused when it is cut off, or a bit of a header was flipped', async () => {
    const bytes = Buffer.concat([...tarOf([file('name', 'content')])]);
    await expect(Array.fromAsync(filesOfTar(pieces(bytes.subarray(0, 515), 512), LIMITS))).rejects.toThrow(/ends in the middle/);
    bytes[0] = (bytes[0] ?? 0) ^ 1;
    await expect(Array.fromAsync(filesOfTar(pieces(bytes, 512), LIMITS))).rejects.toThrow(/sum/);
  });
});

describe('a release', () => {
  const here = { node: '24.15.0', platform: 'linux', architecture: 'x64', libc: 'glibc' };
  const form = (oldestRead: number, newestRead: number, written: number) => ({ oldestRead, newestRead, written });
  const manifest = { kind: 'fairlead-agent' as const, version: '1.0.0', contractVersion: 1, stateForm: form(1, 2, 2), ...here };

  it.each([
    [{}, form(1, 2, 2), undefined],
    [{ libc: 'any' }, form(1, 2, 2), undefined],
    [{ node: '24.9.9' }, form(1, 2, 1), undefined],
    [{ platform: 'darwin' }, form(1, 2, 2), /is for darwin/],
    [{ architecture: 'arm64' }, form(1, 2, 2), /is for linux on arm64/],
    [{ libc: 'musl' }, form(1, 2, 2), /add-on is for musl/],
    [{ node: '24.15.1' }, form(1, 2, 2), /needs Node 24.15.1/],
    [{}, form(1, 3, 3), /has form 3/],
    [{}, form(1, 1, 1), /writes the state in form 2/],
  ])('%j beside an agent with state %j', (changes, stateForm, why) => {
    expect(whyNot({ ...manifest, ...changes }, here, stateForm) ?? '').toMatch(why ?? /^$/);
  });

  it('is there as a whole or not at all, and goes when it is not kept', async () => {
    await using place = await scratch();
    const releases = new Releases(place.path);
    const archive = join(place.path, 'archive');
    const whole = archiveOf({ version: '1.2.3', files: ['dist/a.js'] });
    for (const cut of [0, 10, 100, whole.length - 9]) {
      await writeFile(archive, whole.subarray(0, cut));
      await expect(releases.unpack(DIGEST, archive, signal)).rejects.toMatchObject({ code: 'PROTOCOL_ERROR' });
      expect(await readdir(place.path)).toEqual(['archive']);
    }
    await writeFile(archive, whole);
    expect(await releases.unpack(DIGEST, archive, signal)).toMatchObject({ version: '1.2.3' });
    expect(await releases.manifestOf(DIGEST)).toMatchObject({ version: '1.2.3' });
    expect(await readFile(join(releaseDirectory(place.path, DIGEST), 'dist/a.js'), 'utf8')).toBe('');
    await releases.removeBut(['installed', undefined]);
    expect(await readdir(place.path)).toEqual(['archive']);
  });

  it('is not unpacked through a link that somebody has put there', async () => {
    await using place = await scratch();
    await using elsewhere = await scratch();
    await symlink(elsewhere.path, join(place.path, 'unpacking'));
    await writeFile(join(place.path, 'archive'), archiveOf({ version: '1.2.3' }));
    await new Releases(place.path).unpack(DIGEST, join(place.path, 'archive'), signal);
    expect(await readdir(elsewhere.path)).toEqual([]);
  });

  it('must begin with its manifest', async () => {
    await using place = await scratch();
    await writeFile(join(place.path, 'archive'), gzipSync(Buffer.concat([...tarOf([file('bin/fairlead.js')])])));
    const unpacked = new Releases(place.path).unpack(DIGEST, join(place.path, 'archive'), signal);
    await expect(unpacked).rejects.toMatchObject({ code: 'PROTOCOL_ERROR', message: expect.stringContaining('begins with bin') });
  });
});

describe('a launcher', () => {
  it('needs nothing but Node', async () => {
    const directory = fileURLToPath(new URL('../../agent/launcher', import.meta.url));
    const texts = await Promise.all((await readdir(directory)).map((name) => readFile(join(directory, name), 'utf8')));
    const imports = texts.flatMap((text) =>
      [...text.matchAll(/from '([^']+)'|import\('([^']+)'\)/g)].map(([, from, lazy]) => from ?? lazy),
    );
    expect(imports.length).toBeGreaterThan(10);
    for (const entry of imports) expect(entry).toMatch(/^(\.\/|node:)/);
  });

  it('ends an agent that hangs and whose launcher is gone, and no other process of its pid', async () => {
    await using place = await scratch();
    const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1e6)'], { stdio: 'ignore' });
    const pid = child.pid ?? 0;
    try {
      await writeFile(
        join(place.path, 'child.json'),
        JSON.stringify({ ...identityOf(pid), startTime: '1', bootId: readBootId() }),
      );
      await endOrphan(place.path, 100, () => expect.unreachable('it is another'));
      expect(noteChild(join(place.path, 'not there'), pid)).toBe(false);
      expect(noteChild(place.path, pid)).toBe(true);
      await endOrphan(place.path, 100, (killed) => expect(killed).toBe(pid));
      expect(identityOf(pid)).toBeUndefined();
    } finally {
      child.kill('SIGKILL');
    }
  });
});

describe('a simulated host', () => {
  it('changes for a release, or fails to, as its script says', async () => {
    const faults = [{ kind: 'failing', operations: ['agent.update'], from: 1000 }];
    const script = parseWith(SimScript, { operation: { min: 0, max: 0 }, faults }, 'script');
    let now = 0;
    const updates = new SimUpdates({
      faults: new HostFaults(script, { name: 'h', labels: {} }),
      now: () => now,
      onOperation: () => {},
    });
    expect(await updates.update({ release: DIGEST, healthTimeoutMs: 1000 }, { signal })).toMatchObject({ release: DIGEST });
    now = 2000;
    await expect(updates.update({ release: 'installed', healthTimeoutMs: 1000 }, { signal })).rejects.toMatchObject({
      code: 'UPDATE_FAILED',
    });
    expect(await updates.release()).toMatchObject({ release: DIGEST, previous: 'installed', updatable: true });
  });
});

async function* pieces(bytes: Buffer, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}
