/** Disks that the agent has made for a VM from a snapshot are that VM's, whatever `imageRoots` says, and nobody else's. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Policy } from '../../agent/rpc/policy.ts';
import { createOverlay } from '../../agent/vm/snapshot/overlay.ts';
import { OPEN_POLICY } from '../support/policy.ts';
import { spec } from '../support/vm.ts';

let stateDir: string;
let policy: Policy;
let frozen: string;
let own: string;
beforeEach(async () => {
  stateDir = await mkdtemp(join(tmpdir(), 'fl-pol-'));
  const snapshotDir = join(stateDir, 'snapshots');
  const images = join(stateDir, 'images');
  policy = new Policy({ ...OPEN_POLICY, imageRoots: [images], stateDir, snapshotDir });
  for (const path of [join(snapshotDir, 'one'), join(stateDir, 'vms', 'web', 'disks'), images])
    await mkdir(path, { recursive: true });
  frozen = join(snapshotDir, 'one', 'disk0.disk');
  own = join(stateDir, 'vms', 'web', 'disks', 'disk0.qcow2');
  await writeFile(frozen, Buffer.alloc(512));
  await createOverlay(own, { path: frozen, format: 'raw' });
});
afterEach(() => rm(stateDir, { recursive: true, force: true }));

describe('a disk that was made from a snapshot', () => {
  const check = (name: string, path: string, format: 'raw' | 'qcow2') =>
    policy.checkSpec(spec({ name, disks: [{ path, format }] }));

  it('is allowed to its VM, on the frozen one', async () => {
    await expect(check('web', own, 'qcow2')).resolves.toBeUndefined();
  });

  it('is refused to another VM', async () => {
    await expect(check('other', own, 'qcow2')).rejects.toMatchObject({ code: 'PERMISSION_DENIED' });
  });

  it.each(['web', 'other'])('is not the frozen one itself, for VM %s', async (name) => {
    await expect(check(name, frozen, 'raw')).rejects.toMatchObject({ code: 'PERMISSION_DENIED' });
  });

  it('is not an image of somebody who has put a frozen one below it', async () => {
    const image = join(stateDir, 'images', 'mine.qcow2');
    await createOverlay(image, { path: frozen, format: 'raw' });
    await expect(check('web', image, 'qcow2')).rejects.toMatchObject({ code: 'PERMISSION_DENIED' });
  });

  it('is not anything else of the agent that it may be made to stand on', async () => {
    const record = join(stateDir, 'vms', 'web', 'vm.json');
    await writeFile(record, '{}');
    const path = join(stateDir, 'vms', 'web', 'disks', 'other.qcow2');
    await createOverlay(path, { path: record, format: 'raw' });
    await expect(check('web', path, 'qcow2')).rejects.toMatchObject({ code: 'PERMISSION_DENIED' });
  });
});
