/** Named snapshots of guests that work: made, listed, checked, gone back to, and given away as clones. */
import { truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { SnapshotProgress } from '../../shared/protocol/snapshot.ts';
import { parseParams } from '../../shared/protocol/validate.ts';
import { inGuest, linuxHost, runLinux, whyNoLinux } from '../support/linux-vm.ts';
import { snapshotsOf } from '../support/snapshots.ts';
import type { TestHost } from '../support/vm.ts';
import { beginWork, FILE_RAM } from '../support/working-guest.ts';

const missing = whyNoLinux();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

describe.skipIf(missing !== undefined)('snapshots of a guest that works', () => {
  let host: TestHost;
  let snapshots: ReturnType<typeof snapshotsOf>;
  let disk: string;
  beforeEach(async () => {
    host = await linuxHost();
    snapshots = snapshotsOf(host);
    disk = join(host.options.stateDir, `a disk, "of" the guest's.img`);
    await writeFile(disk, '');
    await truncate(disk, 32 * 1024 ** 2);
  });
  afterEach(() => host[Symbol.asyncDispose]());

  const create = (params: object, onProgress?: (progress: SnapshotProgress) => void) =>
    snapshots.create(parseParams('snapshot.create', { vm: 'web', ...params }), { onProgress });
  const restore = (snapshot: string, state = 'running') => snapshots.restore(parseParams('vm.restore', { snapshot, state }), {});
  const onDisk = () => inGuest(host.manager, 'web', 'head -c 4 /dev/vda');
  const write = (text: string) =>
    inGuest(host.manager, 'web', `printf ${text} | dd of=/dev/vda conv=notrunc 2>&1 >/dev/null | tail -1; sync`);

  for (const mode of ['stream', 'instant'] as const) {
    test(`mode ${mode}: memory and disk are those of one moment again, however often`, async () => {
      const { manager } = host;
      await runLinux(manager, { name: 'web', memory: FILE_RAM, disks: [{ path: disk }] });
      const work = await beginWork(manager, 'web');
      await work.goesOn();
      await write('then');
      await inGuest(manager, 'web', 'echo then >/tmp/mark');
      const phases = new Set<string>();
      const made = await create({ name: 'one', mode }, ({ phase }) => phases.add(phase));
      expect(made).toMatchObject({ name: 'one', vm: 'web', mode, usedBy: [] });
      expect([...phases]).toEqual(expect.arrayContaining(['unplugging', 'saving', 'copying', 'plugging']));
      await work.goesOn();
      expect(manager.get('web').state).toBe('running');

      for (const after of mode === 'stream' ? ['once'] : ['once', 'twice']) {
        await write('late');
        await inGuest(manager, 'web', `echo ${after} >/tmp/mark`);
        await manager.stop('web', { graceMs: 0 });
        expect(await restore('one')).toMatchObject({ state: 'running' });
        expect(await inGuest(manager, 'web', 'cat /tmp/mark')).toBe('then');
        expect(await onDisk()).toBe('then');
        expect(await inGuest(manager, 'web', 'sha256sum -c /tmp/blob.sha')).toBe('/tmp/blob: OK');
      }
      expect(await snapshots.list({ limit: 10 })).toMatchObject({ snapshots: [{ name: 'one', usedBy: ['web'] }], broken: [] });
      expect(await snapshots.verify({ snapshot: 'one' }, {})).toMatchObject({ ok: true, problems: [] });
      await expect(snapshots.remove({ snapshot: 'one' })).rejects.toMatchObject({ code: 'CONFLICT' });
      await manager.delete('web', { force: true });
      expect(await restore('one', 'paused'), 'also when the VM itself is gone').toMatchObject({ state: 'paused' });
      await manager.resume('web');
      expect(await onDisk()).toBe('then');
    });
  }
});
