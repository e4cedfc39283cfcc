/**
 * What the hub has brought lies below `STATE/images/sha256` by what it holds, and is in many VMs at once. The policy let a VM name such a file
 * as a disk to write to, as its firmware's variables, or as the data file of a qcow2 image, so that one guest could change what others boot.
 */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Policy } from '../../agent/rpc/policy.ts';
import { OPEN_POLICY } from '../support/policy.ts';
import { spec, whyNoQemu } from '../support/vm.ts';

const missing = whyNoQemu();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

describe.skipIf(missing !== undefined)('an image that the hub has brought', () => {
  let directory: string;
  let shared: string;
  let policy: Policy;
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'fl-shared-'));
    const stateDir = join(directory, 'state');
    shared = join(stateDir, 'images', 'sha256', 'a'.repeat(64));
    await mkdir(join(stateDir, 'images', 'sha256'), { recursive: true });
    await writeFile(shared, Buffer.alloc(1024 ** 2));
    await symlink(shared, join(directory, 'link.raw'));
    policy = new Policy({ ...OPEN_POLICY, imageRoots: [directory], stateDir });
  });
  afterAll(() => rm(directory, { recursive: true, force: true }));

  const refused = { code: 'PERMISSION_DENIED', message: expect.stringContaining('that other VMs have too') };
  const withDisk = (path: string, more: object = {}) => spec({ name: 'web', disks: [{ id: 'a', path, ...more }] });

  it('is a disk of a VM only to be read', async () => {
    await policy.checkSpec(withDisk(shared, { format: 'raw', readOnly: true }));
    await policy.checkSpec(spec({ name: 'web', disks: [{ id: 'a', path: shared, media: 'cdrom' }] }));
    await expect(policy.checkSpec(withDisk(shared, { format: 'raw' }))).rejects.toMatchObject(refused);
    await expect(policy.checkSpec(withDisk(join(directory, 'link.raw'), { format: 'raw' }))).rejects.toMatchObject(refused);
  });

  it('is below an image that is written to, and not its data file', async () => {
    const [overlay, split] = [join(directory, 'overlay.qcow2'), join(directory, 'split.qcow2')];
    const run = promisify(execFile);
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', shared, '-F', 'raw', overlay]);
    await policy.checkSpec(withDisk(overlay, { format: 'qcow2' }));
    const data = join(directory, 'data.raw');
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', `data_file=${data}`, split, '1M']);
    await policy.checkSpec(withDisk(split, { format: 'qcow2' }));
    await rm(data);
    await symlink(shared, data);
    await expect(policy.checkSpec(withDisk(split, { format: 'qcow2' }))).rejects.toMatchObject(refused);
  });

  it('holds no variables of a firmware', async () => {
    const boot = (vars: string) => spec({ name: 'web', boot: { firmware: { code: join(directory, 'code.fd'), vars } } });
    await policy.checkSpec(boot(join(directory, 'vars.fd')));
    await expect(policy.checkSpec(boot(shared))).rejects.toMatchObject(refused);
  });
});
