/**
 * Symptom: a hub that may use one disk of a host could give guests any file of it, read and write.
 * Cause: the policy looked at the path of an image, and QEMU opens the backing file and the data file that stand in a qcow2 header, which
 * a guest writes who has the image as a raw disk. It was looked at when a VM was made, and not when it was started.
 */
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Policy } from '../../agent/rpc/policy.ts';
import { OPEN_POLICY } from '../support/policy.ts';
import { spec, testHost, whyNoQemu } from '../support/vm.ts';

interface Header {
  readonly backing?: string;
  readonly format?: string;
  readonly data?: string;
  /** Marks the data file as used. */
  readonly external?: boolean;
}

/** The first cluster of a qcow2 image of 1 MiB, version 3 (QEMU docs/interop/qcow2.txt): enough for whoever reads names. */
function qcow2({ backing, format, data, external = data !== undefined }: Header): Buffer {
  const head = Buffer.alloc(64 * 1024);
  head.writeUInt32BE(0x5146_49fb, 0);
  head.writeUInt32BE(3, 4);
  head.writeUInt32BE(16, 20);
  head.writeBigUInt64BE(1024n ** 2n, 24);
  if (external) head.writeBigUInt64BE(4n, 72);
  head.writeUInt32BE(4, 96);
  head.writeUInt32BE(104, 100);
  let at = 104;
  for (const [type, text] of [
    [0xe279_2aca, format],
    [0x4441_5441, data],
  ] as const) {
    if (text === undefined) continue;
    head.writeUInt32BE(type, at);
    head.writeUInt32BE(text.length, at + 4);
    head.write(text, at + 8);
    at += 8 + Math.ceil(text.length / 8) * 8;
  }
  if (backing !== undefined) {
    head.writeBigUInt64BE(1024n, 8);
    head.writeUInt32BE(backing.length, 16);
    head.write(backing, 1024);
  }
  return head;
}

let directory: string;
let images: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'fl-policy-'));
  images = join(directory, 'images');
  await mkdir(images);
  await writeFile(join(directory, 'secret'), 'x');
  await writeFile(join(images, 'base.raw'), 'x');
});
afterAll(() => rm(directory, { recursive: true, force: true }));

const closed = { ...OPEN_POLICY, qmpCommands: [], pciDevices: [] };

async function check(header: Header, name = 'disk.qcow2'): Promise<void> {
  const path = join(images, name);
  await writeFile(path, qcow2(header));
  await new Policy({ ...closed, imageRoots: [images] }).checkSpec(spec({ name: 'a', disks: [{ path, format: 'qcow2' }] }));
}

describe('a qcow2 image', () => {
  it('may name files that guests may have', async () => {
    await expect(check({})).resolves.toBeUndefined();
    await expect(check({ backing: 'base.raw', format: 'raw' })).resolves.toBeUndefined();
    await expect(check({ backing: join(images, 'base.raw'), format: 'raw' })).resolves.toBeUndefined();
    await expect(check({ data: join(images, 'base.raw') })).resolves.toBeUndefined();
  });

  it.each<[string, Header]>([
    ['a backing file elsewhere', { backing: '/etc/passwd', format: 'raw' }],
    ['a backing file elsewhere, by a relative path', { backing: '../secret', format: 'raw' }],
    ['a backing file by json:', { backing: 'json:{"driver":"file","filename":"/etc/passwd"}', format: 'raw' }],
    ['a backing file by a protocol', { backing: 'file:/etc/passwd', format: 'raw' }],
    ['a backing file of another machine', { backing: 'nbd://127.0.0.1:10809/x', format: 'raw' }],
    ['a backing file of which QEMU would guess the format', { backing: 'base.raw' }],
    ['a backing file of a format that names files itself', { backing: 'base.raw', format: 'vmdk' }],
    ['a data file elsewhere', { data: '../secret' }],
    ['a data file without a name', { external: true }],
  ])('may not name %s', async (_what, header) => {
    await expect(check(header)).rejects.toMatchObject({ code: 'PERMISSION_DENIED', details: { setting: 'imageRoots' } });
  });

  it('may not lead out through one below it, or through a link', async () => {
    await writeFile(join(images, 'middle.qcow2'), qcow2({ backing: '../secret', format: 'raw' }));
    await expect(check({ backing: 'middle.qcow2', format: 'qcow2' })).rejects.toThrow('imageRoots');
    await symlink(join(directory, 'secret'), join(images, 'link.raw'));
    await expect(check({ backing: 'link.raw', format: 'raw' })).rejects.toThrow('imageRoots');
    await expect(check({ backing: 'loop.qcow2', format: 'qcow2' }, 'loop.qcow2')).rejects.toThrow('too many images');
  });
});

it('no root that holds the state directory gives guests the key of the host', async () => {
  const stateDir = join(directory, 'state');
  await mkdir(join(stateDir, 'images'), { recursive: true });
  for (const name of ['host-key.pem', 'images/a.raw']) await writeFile(join(stateDir, name), 'x');
  const policy = new Policy({ ...closed, imageRoots: [directory], stateDir });
  const wants = (name: string) => policy.checkSpec(spec({ name: 'a', disks: [{ path: join(stateDir, name) }] }));
  await expect(wants('host-key.pem')).rejects.toThrow('imageRoots');
  await expect(wants('images/a.raw')).resolves.toBeUndefined();
});

const missing = whyNoQemu();
if (missing !== undefined) console.log(`skipped: ${missing}`);

it.skipIf(missing !== undefined)('the policy is asked again at each start, and once QEMU has its files', async () => {
  const asked: string[] = [];
  const allow = { on: 3 };
  const checkSpec = async ({ name }: { name: string }) => {
    asked.push(name);
    if (asked.length > allow.on) throw new Error('not any more');
  };
  await using host = await testHost({ policy: { qmpCommands: ['*'], checkSpec } });
  await host.manager.create(spec({ name: 'a' }));
  await host.manager.start('a');
  expect(asked).toEqual(['a', 'a']);
  await host.manager.stop('a', { graceMs: 0 });

  await expect(host.manager.start('a'), 'the second answer counts').rejects.toThrow('not any more');
  expect(host.manager.get('a').state).toBe('stopped');
  await expect(host.manager.start('a'), 'so does the first').rejects.toThrow('not any more');
});
