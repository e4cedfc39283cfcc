/**
 * Symptom: a hub, or a guest that had an image as a raw disk, could give guests any file of a host, past `imageRoots`.
 * Cause: names in a qcow2 header were not read as QEMU reads them. A relative data file is opened from QEMU's working directory, which is
 * `/`, and was looked for beside the image, where there is none, so that it passed. Header extensions behind the end that QEMU knows were
 * taken for those that count, and `..` behind a link was taken out of the path before anybody had followed the link.
 */
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Policy } from '../../agent/rpc/policy.ts';
import { OPEN_POLICY } from '../support/policy.ts';
import { spec } from '../support/vm.ts';

const BACKING_FORMAT = 0xe279_2aca;
const DATA_FILE = 0x4441_5441;
const PADDING = 0x1234_5678;

let images: string;
let elsewhere: string;
beforeAll(async () => {
  const directory = await mkdtemp(join(tmpdir(), 'fl-policy-'));
  [images, elsewhere] = [join(directory, 'images'), join(directory, 'elsewhere')];
  await mkdir(images);
  await mkdir(join(elsewhere, 'shared'), { recursive: true });
  await writeFile(join(elsewhere, 'secret'), 'x');
  await writeFile(join(images, 'base.raw'), 'x');
});
afterAll(() => rm(join(images, '..'), { recursive: true, force: true }));

/** A header of version 3 with these extensions one after another and no end, and what stands at given places. */
function header({
  clusterBits = 16,
  external = false,
  extensions,
  backingAt,
}: {
  readonly clusterBits?: number;
  readonly external?: boolean;
  readonly extensions: readonly (readonly [type: number, text: string])[];
  readonly backingAt?: readonly [offset: number, name: string];
}): Buffer {
  const head = Buffer.alloc(64 * 1024);
  head.writeUInt32BE(0x5146_49fb, 0);
  head.writeUInt32BE(3, 4);
  head.writeUInt32BE(clusterBits, 20);
  head.writeBigUInt64BE(1024n ** 2n, 24);
  if (external) head.writeBigUInt64BE(4n, 72);
  head.writeUInt32BE(4, 96);
  head.writeUInt32BE(104, 100);
  let at = 104;
  for (const [type, text] of extensions) {
    head.writeUInt32BE(type, at);
    head.writeUInt32BE(Buffer.byteLength(text), at + 4);
    head.write(text, at + 8);
    at += 8 + Math.ceil(Buffer.byteLength(text) / 8) * 8;
  }
  if (backingAt !== undefined) {
    head.writeBigUInt64BE(BigInt(backingAt[0]), 8);
    head.writeUInt32BE(backingAt[1].length, 16);
    head.write(backingAt[1], backingAt[0]);
  }
  return head;
}

async function check(image: Buffer): Promise<void> {
  const path = join(images, 'disk.qcow2');
  await writeFile(path, image);
  await new Policy({ ...OPEN_POLICY, imageRoots: [images] }).checkSpec(spec({ name: 'a', disks: [{ path, format: 'qcow2' }] }));
}
const isRefused = { code: 'PERMISSION_DENIED', details: { setting: 'imageRoots' } };

test('a data file with a relative name is refused, for QEMU would take it from the root of the host', async () => {
  await expect(check(header({ external: true, extensions: [[DATA_FILE, 'etc/passwd']] }))).rejects.toMatchObject(isRefused);
  await expect(check(header({ external: true, extensions: [[DATA_FILE, join(images, 'base.raw')]] }))).resolves.toBeUndefined();
});

test('an extension behind the end of the first cluster does not count', async () => {
  const hidden = join(elsewhere, 'secret');
  const filler = 'x'.repeat(512 - 104 - 8 - Math.ceil(hidden.length / 8) * 8 - 8);
  const image = header({
    clusterBits: 9,
    external: true,
    extensions: [
      [DATA_FILE, hidden],
      [PADDING, filler],
      [DATA_FILE, join(images, 'base.raw')],
    ],
  });
  await expect(check(image)).rejects.toMatchObject(isRefused);
});

test('an extension behind the name of the backing file does not count', async () => {
  // What follows the header of extension BACKING_FORMAT is "qcow2", then the name at 120, which reads as one more extension.
  const image = header({ extensions: [[BACKING_FORMAT, 'qcow2']], backingAt: [120, 'b.qc'] });
  image.writeUInt32BE(0, 124);
  image.writeUInt32BE(BACKING_FORMAT, 128);
  image.writeUInt32BE(3, 132);
  image.write('raw', 136);
  await writeFile(
    join(images, 'b.qc'),
    header({ extensions: [[BACKING_FORMAT, 'raw']], backingAt: [1024, join(elsewhere, 'secret')] }),
  );
  await expect(check(image)).rejects.toMatchObject(isRefused);
});

test('a name that is no UTF-8 is refused: another would be looked for', async () => {
  const image = header({ extensions: [[BACKING_FORMAT, 'raw']], backingAt: [1024, 'x'] });
  image.writeUInt8(0xff, 1024);
  await expect(check(image)).rejects.toMatchObject(isRefused);
});

test('dots behind a link lead out of where the link leads', async () => {
  await symlink(join(elsewhere, 'shared'), join(images, 'shared'));
  const roots = { ...OPEN_POLICY, imageRoots: [images, join(elsewhere, 'shared')] };
  const path = `${images}/shared/../secret`;
  await expect(new Policy(roots).checkSpec(spec({ name: 'a', disks: [{ path }] }))).rejects.toMatchObject(isRefused);
});
