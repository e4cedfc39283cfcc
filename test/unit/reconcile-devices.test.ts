/** What became of a disk or medium that was asked for as an image, when the agent died in between: found as the file that it is on the host. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { reconcilerOf } from '../../agent/rpc/reconcile.ts';
import { deviceReconcilers } from '../../agent/rpc/reconcile-devices.ts';
import type { DeviceOperations } from '../../agent/vm/devices/device-operations.ts';
import { createOverlay } from '../../agent/vm/snapshot/overlay.ts';
import { parseParams } from '../../shared/protocol/validate.ts';
import { FakeVms, fakeVmInfo } from '../support/fake-vms.ts';
import { accepted } from '../support/journal-commands.ts';

const HEX = 'a'.repeat(64);
const IMAGE = `image:sha256:${HEX}`;

let directory: string;
let overlay: string;
const blob = () => join(directory, 'images', 'sha256', HEX);
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'fl-reconcile-'));
  overlay = join(directory, 'data-1.qcow2');
  await mkdir(dirname(blob()), { recursive: true });
  await writeFile(blob(), Buffer.alloc(4096));
  await createOverlay(overlay, { path: blob(), format: 'raw' });
});
afterAll(() => rm(directory, { recursive: true, force: true }));

interface Found {
  readonly id: string;
  readonly path?: string;
  readonly format?: string;
}

/** The VM has this device, and QEMU something in each drive. */
async function outcomeOf(method: string, params: object, device: Found | undefined): Promise<string> {
  const operation = accepted('c1', { method, params: { vm: 'web', ...params } });
  const vms = new FakeVms([]);
  vms.infos.push(fakeVmInfo('web'));
  const live = { spec: { disks: [device] }, execute: async () => [{ qdev: device?.id, inserted: {} }] };
  // SAFETY: all that the rules for devices ask of them.
  const devices = {
    find: async () => device,
    look: async (_vm: string, at: (vm: object, limits: object) => unknown) => await at(live, {}),
  } as unknown as DeviceOperations;
  return (await reconcilerOf(vms, deviceReconcilers(devices))(operation, { isAlone: true })).outcome;
}

it('a disk is done where the VM has it on that image, and another is unknown', async () => {
  const params = { id: 'data', disk: { path: IMAGE } };
  const { disk } = parseParams('disk.attach', { vm: 'web', ...params });
  const found = (more: object) => ({ ...disk, id: 'data', ...more });
  expect(await outcomeOf('disk.attach', params, found({ path: overlay, format: 'qcow2' }))).toBe('done');
  expect(await outcomeOf('disk.attach', params, found({ path: '/other.raw' }))).toBe('unknown');
  const reading = { id: 'data', disk: { path: IMAGE, readOnly: true } };
  expect(await outcomeOf('disk.attach', reading, found({ path: blob(), readOnly: true }))).toBe('done');
  // It can be written to, and was not to be.
  expect(await outcomeOf('disk.attach', reading, found({ path: overlay, format: 'qcow2' }))).toBe('unknown');
  expect(await outcomeOf('disk.attach', params, undefined)).toBe('not-done');
});

it('a medium is done where the image is in the drive', async () => {
  const params = { id: 'cd', path: IMAGE };
  expect(await outcomeOf('medium.change', params, { id: 'cd', path: blob(), format: 'raw' })).toBe('done');
  expect(await outcomeOf('medium.change', params, { id: 'cd', path: '/other.iso', format: 'raw' })).toBe('not-done');
});
