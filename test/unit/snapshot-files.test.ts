/** The files of a snapshot: overlays, hashes over holes, manifests, and the directory that keeps them. */
import { execFile } from 'node:child_process';
import { chmod, mkdir, mkdtemp, open, rename, rm, stat, truncate, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SnapshotCatalogue } from '../../agent/vm/snapshot/catalogue.ts';
import { cloneNames } from '../../agent/vm/snapshot/clone.ts';
import { copyInto, frozenCopy, hashContent } from '../../agent/vm/snapshot/content.ts';
import { identityOf, type Manifest, whyChanged } from '../../agent/vm/snapshot/manifest.ts';
import { createOverlay, virtualSize } from '../../agent/vm/snapshot/overlay.ts';
import { spec } from '../support/vm.ts';

const run = promisify(execFile);
const never = new AbortController().signal;
const MIB = 1024 ** 2;
const hasQemuImg = await run('qemu-img', ['--version']).then(
  () => true,
  () => false,
);
if (!hasQemuImg) console.warn('skipped: overlays are not held against qemu-img, which is not here');

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'fl-snap-'));
});
afterEach(() => rm(directory, { recursive: true, force: true }));
const at = (name: string) => join(directory, name);

/** So large, with data at those offsets and holes elsewhere. */
async function sparse(name: string, bytes: number, ...offsets: number[]): Promise<string> {
  await using file = await open(at(name), 'w');
  await file.truncate(bytes);
  for (const offset of offsets) await file.write(Buffer.from('data'), 0, 4, offset);
  return at(name);
}

describe('a file with holes', () => {
  it('has the same hash wherever the holes are, and another for another byte', async () => {
    const holes = await sparse('holes', 8 * MIB + 5, 3 * MIB + 7);
    const full = at('full');
    await writeFile(full, Buffer.alloc(8 * MIB + 5));
    await using file = await open(full, 'r+');
    await file.write(Buffer.from('data'), 0, 4, 3 * MIB + 7);
    const hash = await hashContent(holes, never);
    expect(await hashContent(full, never)).toEqual(hash);
    await file.write(Buffer.from('x'), 0, 1, 8 * MIB + 4);
    expect(await hashContent(full, never)).not.toEqual(hash);
    expect(await hashContent(await sparse('moved', 8 * MIB + 5, 4 * MIB + 7), never)).not.toEqual(hash);
  });

  it('is copied with them, and for the owner alone', async () => {
    const from = await sparse('a "file", with a name', 64 * MIB, 0, 33 * MIB);
    await frozenCopy(from, at('copy'), never);
    expect(await hashContent(at('copy'), never)).toEqual(await hashContent(from, never));
    const { blocks, mode } = await stat(at('copy'));
    expect(blocks * 512).toBeLessThan(MIB);
    expect(mode & 0o777).toBe(0o600);
    await copyInto(from, await sparse('into', 64 * MIB), never);
    expect(await hashContent(at('into'), never)).toEqual(await hashContent(from, never));
  });

  it("is copied where the host has another cp than GNU's, or none", async () => {
    const from = await sparse('ram', 8 * MIB, 0, 5 * MIB);
    await mkdir(at('bin'));
    const { PATH } = process.env;
    process.env['PATH'] = at('bin');
    using _ = { [Symbol.dispose]: () => void (process.env['PATH'] = PATH) };
    await frozenCopy(from, at('without'), never);
    await writeFile(at('bin/cp'), '#!/bin/sh\necho "cp: unrecognized option \'--sparse=always\'" >&2\nexit 1\n', { mode: 0o755 });
    await frozenCopy(from, at('with-another'), never);
    for (const copy of ['without', 'with-another']) {
      expect(await hashContent(at(copy), never)).toEqual(await hashContent(from, never));
      expect((await stat(at(copy))).blocks * 512).toBeLessThan(4 * MIB);
    }
  });

  it('says what went wrong when it cannot be copied', async () => {
    await expect(frozenCopy(at('none'), at('copy'), never)).rejects.toMatchObject({ code: 'STORAGE_FAILED' });
  });
});

describe('an overlay', () => {
  it.skipIf(!hasQemuImg)('is what qemu-img calls sound, on raw and on qcow2, and sees what is below', async () => {
    const base = await sparse('base, "it".img', 3 * 1024 * MIB + 512, 5);
    await createOverlay(at('one.qcow2'), { path: base, format: 'raw' });
    await createOverlay(at('two.qcow2'), { path: at('one.qcow2'), format: 'qcow2' });
    expect(await virtualSize({ path: at('two.qcow2'), format: 'qcow2' })).toBe(BigInt(3 * 1024 * MIB + 512));
    await run('qemu-img', ['check', at('two.qcow2')]);
    const { stdout } = await run('qemu-img', ['compare', '-f', 'qcow2', '-F', 'raw', at('two.qcow2'), base]);
    expect(stdout).toContain('identical');
  });

  it('is refused on a name that its header cannot hold', async () => {
    const deep = join(directory, ...Array.from({ length: 6 }, () => 'd'.repeat(200)));
    await mkdir(deep, { recursive: true });
    await writeFile(join(deep, 'base'), 'x');
    const long = { path: join(deep, 'base'), format: 'raw' } as const;
    await expect(createOverlay(at('one.qcow2'), long)).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });
});

describe('a file that was saved', () => {
  it('is known again, and not when it was cut, replaced, written to or is gone', async () => {
    const path = await sparse('ram', MIB, 5);
    const saved = await identityOf(path);
    expect(await whyChanged(path, saved)).toBeUndefined();
    await utimes(path, new Date(), new Date(Date.now() + 1000));
    expect(await whyChanged(path, saved)).toMatch(/written to/);
    await truncate(path, MIB / 2);
    expect(await whyChanged(path, saved)).toMatch(/has 524288 bytes and had 1048576/);
    await sparse('other', MIB, 5);
    await rename(at('other'), path);
    expect(await whyChanged(path, saved)).toMatch(/another file/);
    await rm(path);
    expect(await whyChanged(path, saved)).toMatch(/gone/);
  });
});

function manifestOf(name: string): Manifest {
  return {
    version: 1,
    name,
    vm: 'web',
    vmUuid: '00000000-0000-0000-0000-000000000000',
    mode: 'stream',
    clonable: false,
    createdAt: '2026-01-01T00:00:00.000Z',
    qemuVersion: '7.2.22',
    facts: { machine: 'pc-q35-7.2', accelerator: 'tcg', ports: 4 },
    spec: spec({ name: 'web' }),
    unplugged: { networks: [] },
    abi: { machine: 'm', accelerator: 'tcg', cpu: 'max', smp: '1', memory: '64M', devices: {} },
    state: { bytes: 1, sha256: '0'.repeat(64) },
    ram: [],
    disks: [],
    pausedMs: 0,
  };
}

describe('the catalogue', () => {
  const open = () => new SnapshotCatalogue({ directory: at('snapshots'), owner: undefined });

  it('has what was kept, and nothing of what was not', async () => {
    const catalogue = open();
    {
      await using draft = await catalogue.begin('one');
      await expect(catalogue.begin('one')).rejects.toMatchObject({ code: 'CONFLICT' });
      expect((await catalogue.list()).manifests).toEqual([]);
      await draft.keep(manifestOf('one'));
    }
    {
      await using _ = await catalogue.begin('two');
    }
    expect((await catalogue.list()).manifests.map(({ name }) => name)).toEqual(['one']);
    await expect(catalogue.begin('one')).rejects.toMatchObject({ code: 'CONFLICT' });
    await expect(catalogue.read('two')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect(await catalogue.remove('one')).toBe(true);
    expect(await catalogue.remove('one')).toBe(false);
  });

  it('gives a name to one of those who want it at once, and tells the others that it is taken', async () => {
    const catalogue = open();
    const wanted = await Promise.allSettled(Array.from({ length: 4 }, () => catalogue.begin('one')));
    const told = wanted.map((one) => (one.status === 'fulfilled' ? 'begun' : String(one.reason.code)));
    expect(told.sort()).toEqual(['CONFLICT', 'CONFLICT', 'CONFLICT', 'begun']);
    await expect(catalogue.whileUnheld('one', async () => {})).rejects.toMatchObject({ code: 'CONFLICT' });
  });

  it('finds what another agent began and did not end', async () => {
    await open().begin('half');
    expect(await open().unfinished()).toEqual(['half']);
  });

  it('refuses a directory that others can look into', async () => {
    const catalogue = open();
    {
      await using draft = await catalogue.begin('one');
      await draft.keep(manifestOf('one'));
    }
    await chmod(join(at('snapshots'), 'one'), 0o750);
    await expect(catalogue.read('one')).rejects.toMatchObject({ code: 'PERMISSION_DENIED', message: /mode 750/ });
    expect((await catalogue.list()).broken).toMatchObject([{ name: 'one' }]);
    await chmod(at('snapshots'), 0o755);
    await expect(catalogue.begin('two')).rejects.toMatchObject({ code: 'PERMISSION_DENIED' });
  });

  it.each([
    ['cut', (text: string) => text.slice(0, 40)],
    ['of another name', (text: string) => text.replace('"name": "one"', '"name": "two"')],
    ['with a field that is wrong', (text: string) => text.replace('"ports": 4', '"ports": "four"')],
  ])('tells a manifest that is %s, and lists the others', async (_, damage) => {
    const catalogue = open();
    for (const name of ['one', 'other']) {
      await using draft = await catalogue.begin(name);
      await draft.keep(manifestOf(name));
    }
    const path = join(at('snapshots'), 'one', 'manifest.json');
    await writeFile(path, damage(JSON.stringify(manifestOf('one'), undefined, 2)));
    await expect(catalogue.read('one')).rejects.toMatchObject({ code: 'STORAGE_FAILED' });
    const { manifests, broken } = await catalogue.list();
    expect([manifests.map(({ name }) => name), broken.map(({ name }) => name)]).toEqual([['other'], ['one']]);
  });
});

describe('clones that nobody named', () => {
  it('have the first names that are free, and never a name that is too long', () => {
    expect(cloneNames('web', 3, (name) => name === 'web-2')).toEqual(['web-1', 'web-3', 'web-4']);
    const [long = ''] = cloneNames('a'.repeat(63), 1, () => false);
    expect(long).toBe(`${'a'.repeat(61)}-1`);
  });
});
