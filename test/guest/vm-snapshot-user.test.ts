/**
 * Guests are saved and brought back where QEMU runs as another user than the agent (qemuUser): what is the agent's stays so, what QEMU gets
 * of it is that one VM's, and nobody else is let in.
 */
import { chmod, lstat, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { VmStore } from '../../agent/vm/store.ts';
import { parseParams } from '../../shared/protocol/validate.ts';
import { inGuest, linuxHost, runLinux, whyNoLinux } from '../support/linux-vm.ts';
import { snapshotsOf } from '../support/snapshots.ts';
import { spec, type TestHost, testHost, whyNoQemu } from '../support/vm.ts';
import { beginWork, FILE_RAM } from '../support/working-guest.ts';

const isRoot = process.getuid?.() === 0;
const missing = isRoot ? whyNoQemu() : 'another user needs root';
const noLinux = isRoot ? whyNoLinux() : missing;
for (const why of new Set([missing, noLinux])) if (why !== undefined) console.warn(`skipped: ${why}`);

const NOBODY = 65534;
const CONFINEMENT = { confinement: { user: String(NOBODY), group: String(NOBODY) } } as const;

/** The directories of a test are in one for its user alone. */
async function letIn<Host extends TestHost>(host: Host): Promise<Host> {
  await chmod(dirname(host.options.stateDir), 0o711);
  return host;
}

async function ownerOf(path: string): Promise<string> {
  const { uid, mode } = await lstat(path);
  return `${uid} ${(mode & 0o777).toString(8)}`;
}

async function uidOf({ manager }: TestHost, name: string): Promise<string | undefined> {
  const status = await readFile(`/proc/${manager.get(name).pid}/status`, 'utf8');
  return /^Uid:\t(\d+)/m.exec(status)?.[1];
}

describe.skipIf(missing !== undefined)('with a user of its own, QEMU', () => {
  test('saves and loads its guest by suspend, both kinds of snapshot, restore and clone', async () => {
    await using host = await letIn(await testHost(CONFINEMENT));
    const { manager, options } = host;
    const snapshots = snapshotsOf(host);
    const disk = join(options.stateDir, 'disk.img');
    await writeFile(disk, Buffer.alloc(1024 ** 2));
    await chmod(disk, 0o666);
    const devices = { balloon: false };
    await manager.run(spec({ name: 'web', memory: { bytes: '64MiB', backing: 'file' }, disks: [{ path: disk }], devices }));
    const paths = new VmStore(options).paths('web');
    expect(await uidOf(host, 'web')).toBe(String(NOBODY));
    expect(await ownerOf(paths.ramFile)).toBe(`${NOBODY} 600`);

    await manager.suspend('web', { durability: 'process' });
    // QEMU got it through a socket alone.
    expect(await ownerOf(paths.deviceState)).toBe('0 600');
    expect(await manager.resume('web')).toMatchObject({ state: 'running', generation: 2 });
    expect(await uidOf(host, 'web')).toBe(String(NOBODY));

    for (const mode of ['instant', 'stream'] as const) {
      await snapshots.create(parseParams('snapshot.create', { vm: 'web', name: mode, mode, clonable: true }), {});
      const kept = join(options.stateDir, 'snapshots', mode);
      expect(await ownerOf(join(kept, 'manifest.json'))).toBe('0 600');
      expect(await ownerOf(join(kept, 'state'))).toBe('0 600');
      await manager.stop('web', { graceMs: 0 });
      await snapshots.restore(parseParams('vm.restore', { snapshot: mode }), {});
      expect(manager.get('web').state).toBe('running');
      expect(await uidOf(host, 'web')).toBe(String(NOBODY));
      const { vms } = await snapshots.clone(parseParams('vm.clone', { snapshot: mode, names: [`${mode}-clone`] }), {});
      expect(vms.map(({ state }) => state)).toEqual(['running']);
      await manager.delete(`${mode}-clone`, { force: true });
      expect((await snapshots.verify({ snapshot: mode }, {})).ok).toBe(true);
    }
    await manager.delete('web', { force: true });
    expect(await readdir(join(options.stateDir, 'ram'))).toEqual([]);
  });

  test('gets no RAM in a directory that others may look into', async () => {
    const ramDir = await mkdtemp(join(tmpdir(), 'fl-ram-'));
    await chmod(ramDir, 0o755);
    await using host = await letIn(await testHost({ ...CONFINEMENT, ramDir }));
    await expect(host.manager.run(spec({ name: 'web', memory: { bytes: '64MiB', backing: 'file' } }))).rejects.toMatchObject({
      code: 'PERMISSION_DENIED',
    });
    await chmod(ramDir, 0o700);
    await host.manager.run(spec({ name: 'web', memory: { bytes: '64MiB', backing: 'file' } }));
    expect((await stat(ramDir)).mode & 0o066, 'passed through, and not looked into').toBe(0);
    await host.manager.delete('web', { force: true });
    await rm(ramDir, { recursive: true });
  });
});

test.skipIf(noLinux !== undefined)('a guest of such a QEMU goes on where it was, its vsock daemon of that user too', async () => {
  await using host = await letIn(await linuxHost(CONFINEMENT));
  await runLinux(host.manager, { name: 'web', memory: FILE_RAM });
  const work = await beginWork(host.manager, 'web');
  await host.manager.suspend('web', { durability: 'process' });
  await work.goesOn();
  expect(await uidOf(host, 'web')).toBe(String(NOBODY));
  expect(await inGuest(host.manager, 'web', 'echo awake')).toBe('awake');
});
