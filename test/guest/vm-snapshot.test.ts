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

/**
 * Writes n into sector n of the disk and keeps n in memory; looks first that the disk itself, not the cache, has n and nothing after it. A
 * disk of another moment than the memory is told in /tmp/torn.
 */
const KEEP_COUNT = [
  'n=0; want=',
  'while true; do echo 1 >/proc/sys/vm/drop_caches',
  'has=$(dd if=/dev/vda bs=512 skip=$((2048+n)) count=2 2>/dev/null | tr -d "\\0")',
  '[ "$has" = "$want" ] || echo "$n: $has" >>/tmp/torn',
  'n=$((n+1)); want=$n',
  'printf $n | dd of=/dev/vda bs=512 seek=$((2048+n)) conv=notrunc,sync 2>/dev/null; sync',
  'echo $n >/tmp/n.new; mv /tmp/n.new /tmp/n; usleep 20000; done',
].join('\n');
const COUNTED = 'a=$(cat /tmp/n); while [ "$(cat /tmp/n)" -lt $((a+2)) ]; do usleep 20000; done; cat /tmp/torn 2>/dev/null';

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

  /** What was torn, once it has gone on for a while. */
  const counted = () => inGuest(host.manager, 'web', COUNTED);
  async function beginCount(): Promise<void> {
    const encoded = Buffer.from(KEEP_COUNT).toString('base64');
    const begin = 'setsid sh /tmp/keep </dev/null >/dev/null 2>&1 & until [ -e /tmp/n ]; do usleep 20000; done';
    await inGuest(host.manager, 'web', `echo ${encoded} | base64 -d >/tmp/keep; ${begin}`);
  }

  for (const mode of ['stream', 'instant'] as const) {
    test(`mode ${mode}: memory and disk are those of one moment again, however often`, async () => {
      const { manager } = host;
      await runLinux(manager, { name: 'web', memory: FILE_RAM, disks: [{ path: disk }] });
      const work = await beginWork(manager, 'web');
      await work.goesOn();
      await write('then');
      await inGuest(manager, 'web', 'echo then >/tmp/mark');
      await beginCount();
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
        expect(await counted(), 'what the disk has of the count that the memory has').toBe('');
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
