/**
 * What a VM writes onto an image lies below `STATE/images/overlays`. The files lay there side by side, and the policy let any VM name any of
 * them, so that one VM could have the disk of another as its own, to read and to write.
 */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ImagesOnDemand } from '../../agent/images/on-demand.ts';
import { Policy } from '../../agent/rpc/policy.ts';
import { OPEN_POLICY } from '../support/policy.ts';
import { spec, whyNoQemu } from '../support/vm.ts';

const missing = whyNoQemu();
if (missing !== undefined) console.warn(`skipped in part: ${missing}`);

describe('what a VM writes onto an image', () => {
  let directory: string;
  let stateDir: string;
  let overlays: string;
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'fl-overlays-'));
    stateDir = join(directory, 'state');
    overlays = join(stateDir, 'images', 'overlays');
    for (const vm of ['web', 'db']) {
      await mkdir(join(overlays, vm), { recursive: true });
      await writeFile(join(overlays, vm, 'root-1.qcow2'), 'not opened here');
    }
    await writeFile(join(overlays, 'db-root.qcow2'), 'of nobody');
    await symlink(join(overlays, 'db', 'root-1.qcow2'), join(overlays, 'web', 'link.qcow2'));
  });
  afterAll(() => rm(directory, { recursive: true, force: true }));

  const refused = { code: 'PERMISSION_DENIED', details: { setting: 'imageRoots' } };
  const withDisk = (path: string, more: object = {}) => spec({ name: 'web', disks: [{ id: 'a', path, format: 'raw', ...more }] });
  /** Of owners who name much, little, and what is the agent's. */
  const policies = () =>
    [['/'], ['/nowhere'], [join(stateDir, 'images')], [overlays]].map(
      (imageRoots) => new Policy({ ...OPEN_POLICY, imageRoots, stateDir }),
    );

  it('is in a directory of its own', () => {
    // SAFETY: all that a plan asks of them.
    const images = new ImagesOnDemand({ stateDir } as ConstructorParameters<typeof ImagesOnDemand>[0]);
    const planned = images.planned(withDisk(`image:sha256:${'a'.repeat(64)}`));
    expect(dirname(planned.disks[0]?.path ?? '')).toBe(join(overlays, 'web'));
  });

  it('leaves an owner whose images lie beside it their own', async () => {
    const path = join(stateDir, 'images', 'data.raw');
    const policy = new Policy({ ...OPEN_POLICY, imageRoots: [join(stateDir, 'images')], stateDir });
    await expect(policy.checkSpec(withDisk(path))).resolves.toBeUndefined();
  });

  it('is its own, and no other VM may have it, whatever its path or its links say', async () => {
    for (const policy of policies()) {
      await policy.checkSpec(withDisk(join(overlays, 'web', 'root-1.qcow2')));
      for (const path of [
        'db/root-1.qcow2',
        'web/../db/root-1.qcow2',
        'web/link.qcow2',
        'db-root.qcow2',
        'we/root-1.qcow2',
        '../partial/a',
      ]) {
        await expect(policy.checkSpec(withDisk(`${overlays}/${path}`)), path).rejects.toMatchObject(refused);
        await expect(policy.checkSpec(withDisk(`${overlays}/${path}`, { readOnly: true })), path).rejects.toMatchObject(refused);
      }
    }
  });

  it('boots no other VM, and holds no variables of its firmware', async () => {
    const other = join(overlays, 'db', 'root-1.qcow2');
    for (const policy of policies()) {
      await expect(policy.checkSpec(spec({ name: 'web', boot: { kernel: other } }))).rejects.toMatchObject(refused);
    }
    const policy = new Policy({ ...OPEN_POLICY, stateDir });
    const firmware = { code: join(directory, 'code.fd'), vars: other };
    await expect(policy.checkSpec(spec({ name: 'web', boot: { firmware } }))).rejects.toMatchObject(refused);
  });

  it.skipIf(missing !== undefined)('is below no image of another VM', async () => {
    const image = join(directory, 'above.qcow2');
    const below = join(overlays, 'db', 'root-1.qcow2');
    await promisify(execFile)('qemu-img', ['create', '-q', '-f', 'qcow2', '-u', '-b', below, '-F', 'raw', image, '1M']);
    const policy = new Policy({ ...OPEN_POLICY, imageRoots: [directory], stateDir });
    await expect(policy.checkSpec(withDisk(image, { format: 'qcow2' }))).rejects.toMatchObject(refused);
  });
});
