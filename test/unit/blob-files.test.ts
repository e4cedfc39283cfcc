/** Blobs in files: what comes is checked, what broke off is gone on with, and a disk that is full gets its room back. */
import { createHash, randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { usedImages } from '../../agent/images/used-images.ts';
import { createOverlay } from '../../agent/vm/snapshot/overlay.ts';
import { BlobFiles } from '../../shared/node/blob-files.ts';
import { fakeVmInfo } from '../support/fake-vms.ts';

let directory: string;
let files: BlobFiles;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'fairlead-blobs-'));
  files = new BlobFiles({ directory });
});

afterEach(() => rm(directory, { recursive: true, force: true }));

const digestOf = (bytes: Buffer) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
const BYTES = randomBytes(1000);
const DIGEST = digestOf(BYTES);
const partial = () => join(directory, 'partial', DIGEST.slice(7));

async function keep(bytes: Buffer): Promise<string> {
  const digest = digestOf(bytes);
  await using reception = await files.receive(digest, bytes.length);
  await reception.write(bytes);
  await reception.finish();
  return digest;
}

describe('a blob', () => {
  it('is there once it is whole, for its owner alone, and not before', async () => {
    await using reception = await files.receive(DIGEST, 1000);
    await reception.write(BYTES.subarray(0, 600));
    expect(await files.find(DIGEST)).toBeUndefined();
    await reception.write(BYTES.subarray(600));
    expect(await reception.finish()).toMatchObject({ digest: DIGEST, bytes: 1000 });
    expect(await files.find(DIGEST)).toMatchObject({ bytes: 1000 });
    expect((await stat(files.pathOf(DIGEST))).mode & 0o777).toBe(0o400);
    expect(await readdir(join(directory, 'partial'))).toEqual([]);
  });

  it('goes on from what has come, which is hashed again', async () => {
    {
      await using reception = await files.receive(DIGEST, 1000);
      await reception.write(BYTES.subarray(0, 600));
      await expect(reception.finish()).rejects.toMatchObject({ code: 'INTERRUPTED' });
    }
    expect(await files.receivedOf(DIGEST)).toBe(600);
    await using reception = await files.receive(DIGEST, 1000);
    expect(reception.offset).toBe(600);
    await reception.write(BYTES.subarray(600));
    await reception.finish();
    expect(await readFile(files.pathOf(DIGEST))).toEqual(BYTES);
  });

  it.each([0, 999])('with byte %i flipped is thrown away, with what has come of it', async (at) => {
    await using reception = await files.receive(DIGEST, 1000);
    await reception.write(BYTES.map((byte, index) => (index === at ? byte ^ 1 : byte)));
    await expect(reception.finish()).rejects.toMatchObject({ code: 'PROTOCOL_ERROR' });
    expect(await files.find(DIGEST)).toBeUndefined();
    expect(await files.receivedOf(DIGEST)).toBe(0);
  });

  it('that a fault of the disk has changed before it was whole is thrown away', async () => {
    await mkdir(join(directory, 'partial'));
    await writeFile(partial(), randomBytes(600));
    await using reception = await files.receive(DIGEST, 1000);
    await reception.write(BYTES.subarray(600));
    await expect(reception.finish()).rejects.toMatchObject({ code: 'PROTOCOL_ERROR' });
  });

  it('begins anew where more has come than it has', async () => {
    await mkdir(join(directory, 'partial'));
    await writeFile(partial(), randomBytes(2000));
    await using reception = await files.receive(DIGEST, 1000);
    expect(reception.offset).toBe(0);
  });

  it('may not be longer than was said', async () => {
    await using reception = await files.receive(DIGEST, 999);
    await expect(reception.write(BYTES)).rejects.toMatchObject({ code: 'PROTOCOL_ERROR' });
  });

  it('is brought by one at a time', async () => {
    {
      await using _ = await files.receive(DIGEST, 1000);
      await expect(files.receive(DIGEST, 1000)).rejects.toMatchObject({ code: 'CONFLICT' });
    }
    await using _ = await files.receive(DIGEST, 1000);
  });

  it('gives a disk that is full its room back, and says so', async () => {
    await mkdir(join(directory, 'partial'));
    await symlink('/dev/full', partial());
    await using reception = await files.receive(DIGEST, 1000);
    await expect(reception.write(BYTES)).rejects.toMatchObject({
      code: 'STORAGE_FAILED',
      message: expect.stringContaining('full'),
    });
    expect(await readdir(join(directory, 'partial'))).toEqual([]);
  });

  it('that nobody goes on with for a day is given up', async () => {
    await mkdir(join(directory, 'partial'));
    await writeFile(partial(), 'some');
    await files.forgetPartials(Date.now());
    expect(await files.receivedOf(DIGEST)).toBe(4);
    await utimes(partial(), 0, 0);
    await files.forgetPartials(Date.now());
    expect(await files.receivedOf(DIGEST)).toBe(0);
  });

  it.each(['sha256:../x', `sha256:${'g'.repeat(64)}`, `md5:${'0'.repeat(64)}`, ''])(
    'has a digest and nothing else for a name: %j',
    async (name) => {
      expect(() => files.pathOf(name)).toThrow(/no digest/);
      await expect(files.receive(name, 1)).rejects.toMatchObject({ code: 'INVALID_PARAMS' });
    },
  );

  it('is listed, and what else lies there is not', async () => {
    const one = await keep(randomBytes(10));
    const two = await keep(randomBytes(20));
    await writeFile(join(directory, 'sha256', 'README'), '');
    expect((await files.list()).map(({ digest }) => digest)).toEqual([one, two].toSorted());
  });
});

describe('what uses an image', () => {
  const uses = (directories: string[] = [], disks: object[] = []) => {
    const info = fakeVmInfo('web');
    // SAFETY: disks of the tests have what is looked at.
    const vms = { list: () => [{ ...info, spec: { ...info.spec, disks: disks as typeof info.spec.disks } }], broken: [] };
    return usedImages({ vms, directories, overlays: join(directory, 'overlays') });
  };

  it('is a layer above it that anything names, whatever is in its path', async () => {
    const digest = await keep(BYTES);
    const overlay = join(directory, 'overlays', 'web', `a "b" \\c, d.qcow2`);
    await mkdir(dirname(overlay), { recursive: true });
    await createOverlay(overlay, { path: files.pathOf(digest), format: 'raw' });
    expect((await uses()).digests.size).toBe(0);
    const record = join(directory, 'records', 'one.json');
    await mkdir(dirname(record), { recursive: true });
    await writeFile(record, JSON.stringify({ spec: { disks: [{ path: overlay }] } }));
    const found = await uses([dirname(record)]);
    expect([found.digests, found.names(overlay)]).toEqual([new Set([digest]), true]);
  });

  it('is a VM whose spec names it', async () => {
    const digest = await keep(BYTES);
    expect((await uses([], [{ path: files.pathOf(digest), format: 'raw' }])).digests).toEqual(new Set([digest]));
    expect((await uses()).digests.size).toBe(0);
  });

  it('is a VM whose disk stands on it, over several layers', async () => {
    const digest = await keep(BYTES);
    const [lower, upper] = [join(directory, 'lower'), join(directory, 'upper')];
    await createOverlay(lower, { path: files.pathOf(digest), format: 'raw' });
    await createOverlay(upper, { path: lower, format: 'qcow2' });
    const found = await uses([], [{ path: upper, format: 'qcow2' }]);
    expect(found.digests).toEqual(new Set([digest]));
    expect(found.names(lower)).toBe(true);
    expect(found.names(join(directory, 'other'))).toBe(false);
  });

  it('is a snapshot whose manifest names it, or whose frozen disk stands on it', async () => {
    const [named, below] = [await keep(BYTES), await keep(randomBytes(10))];
    const snapshots = join(directory, 'snapshots');
    await mkdir(join(snapshots, 'gold'), { recursive: true });
    await writeFile(
      join(snapshots, 'gold', 'manifest.json'),
      JSON.stringify({ spec: { boot: { kernel: files.pathOf(named) } } }),
    );
    await createOverlay(join(snapshots, 'gold', 'disk0.qcow2'), { path: files.pathOf(below), format: 'raw' });
    expect((await uses([snapshots, join(directory, 'none')])).digests).toEqual(new Set([named, below]));
  });
});
