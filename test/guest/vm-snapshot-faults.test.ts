/** What can go wrong with a snapshot: the VM is as it was, what is told is true, and nothing is left that looks like a snapshot. */
import { spawnSync } from 'node:child_process';
import { copyFile, open, readdir, readFile, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { SnapshotProgress } from '../../shared/protocol/snapshot.ts';
import { parseParams } from '../../shared/protocol/validate.ts';
import { snapshotsOf } from '../support/snapshots.ts';
import { nextEvent, spec, type TestHost, testHost, whyNoQemu } from '../support/vm.ts';

const missing = whyNoQemu();
if (missing !== undefined) console.warn(`skipped: ${missing}`);
type Phase = SnapshotProgress['phase'];

/** The firmware finds nothing to boot: a guest that costs nothing. */
describe.skipIf(missing !== undefined)('a snapshot', () => {
  let host: TestHost;
  let snapshots: ReturnType<typeof snapshotsOf>;
  let disk: string;
  let kept: string;
  beforeEach(async () => {
    host = await testHost();
    snapshots = snapshotsOf(host);
    kept = join(host.options.stateDir, 'snapshots');
    disk = join(host.options.stateDir, 'disk.img');
    await writeFile(disk, Buffer.alloc(1024 ** 2));
    await host.manager.run(spec({ name: 'web', memory: { bytes: '64MiB', backing: 'file' }, disks: [{ path: disk }] }));
  });
  afterEach(() => host[Symbol.asyncDispose]());

  const params = (more: object = {}) => parseParams('snapshot.create', { vm: 'web', name: 'one', mode: 'instant', ...more });
  const create = (more: object = {}, options: Parameters<typeof snapshots.create>[1] = {}) =>
    snapshots.create(params(more), options);
  const restore = (snapshot = 'one') => snapshots.restore(parseParams('vm.restore', { snapshot }), {});
  const stateOf = () => host.manager.get('web').state;
  /** Calls back once, when it has come so far. */
  const when = (phase: Phase, then: () => void) => {
    let isDone = false;
    return (progress: SnapshotProgress): void => {
      if (progress.phase !== phase || isDone) return;
      isDone = true;
      then();
    };
  };

  test.each<[Phase, 'stream' | 'instant']>([
    ['unplugging', 'stream'],
    ['saving', 'stream'],
    ['copying', 'stream'],
    ['hashing', 'instant'],
  ])('that is cancelled while %s (%s) leaves the VM running, and no trace', async (phase, mode) => {
    const caller = new AbortController();
    const onProgress = when(phase, () => caller.abort());
    await expect(create({ mode }, { signal: caller.signal, onProgress })).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(stateOf()).toBe('running');
    expect(await host.manager.qmp('web', { execute: 'query-status' })).toMatchObject({ running: true });
    expect(await readdir(kept)).toEqual([]);
    expect(await create({ mode })).toMatchObject({ name: 'one' });
  });

  test.each<[string, 'stream' | 'instant', string]>([
    ['for the state of the devices', 'instant', '128k'],
    ['for the RAM, after the devices', 'instant', '600k'],
    ['for the stream', 'stream', '512k'],
  ])('that has no room on its disk %s (%s) comes to nothing, and the VM runs on', async (_, mode, size) => {
    // The directory is there once there has been a snapshot.
    await create();
    await snapshots.remove({ snapshot: 'one' });
    if (spawnSync('mount', ['-t', 'tmpfs', '-o', `mode=700,size=${size}`, 'none', kept]).status !== 0) {
      return console.warn('skipped: no file system can be mounted here');
    }
    try {
      await expect(create({ mode })).rejects.toMatchObject({
        code: expect.stringMatching(/^(STORAGE_FAILED|LIMIT_EXCEEDED)$/),
        message: expect.stringMatching(/ENOSPC|no room|no space/i),
      });
      expect(stateOf()).toBe('running');
      expect(await host.manager.qmp('web', { execute: 'query-status' })).toMatchObject({ running: true });
      expect(await readdir(kept)).toEqual([]);
      expect((await snapshots.list(parseParams('snapshot.list', {}))).snapshots).toEqual([]);
    } finally {
      spawnSync('umount', [kept]);
    }
    expect(await create({ mode })).toMatchObject({ name: 'one' });
  });

  test('of a VM whose QEMU dies meanwhile comes to nothing, and the VM has crashed', async () => {
    const crashed = nextEvent(host.manager, 'vm.crashed');
    const onProgress = when('saving', () => process.kill(host.manager.get('web').pid ?? 0, 'SIGKILL'));
    await expect(create({ mode: 'stream' }, { onProgress })).rejects.toThrow(/VM web/);
    await crashed;
    expect(stateOf()).toBe('crashed');
    expect(await readdir(kept)).toEqual([]);
  });

  test('of a QEMU that stands still is given up, and the guest goes on when it can', async () => {
    const pid = host.manager.get('web').pid ?? 0;
    let late: NodeJS.Timeout | undefined;
    const onProgress = when('saving', () => {
      process.kill(pid, 'SIGSTOP');
      // Longer than a stall; what is asked of QEMU then is answered when it can.
      late = setTimeout(() => process.kill(pid, 'SIGCONT'), 3_000);
    });
    const outcome = create({ mode: 'stream', stallTimeoutMs: 1_000 }, { onProgress });
    await expect(outcome).rejects.toMatchObject({ code: 'TIMEOUT' });
    clearTimeout(late);
    process.kill(pid, 'SIGCONT');
    await expect
      .poll(() => host.manager.qmp('web', { execute: 'query-status' }), { timeout: 60_000 })
      .toMatchObject({ running: true });
    expect(stateOf()).toBe('running');
  });

  test('of a paused guest leaves it paused; a second one waits until it has run', async () => {
    await host.manager.pause('web');
    expect(await create()).toMatchObject({ pausedMs: 0 });
    expect(stateOf()).toBe('paused');
    await expect(create({ name: 'two' })).rejects.toMatchObject({ code: 'WRONG_STATE', message: /resume it first/ });
    await host.manager.resume('web');
    expect(await create({ name: 'two' })).toMatchObject({ name: 'two' });
    expect(await snapshots.prune({ keep: 1 })).toEqual({ removed: ['one'], inUse: [] });
  });

  test.each(['stream', 'instant'] as const)('of a paused VM (%s) ends running or paused, as is asked', async (mode) => {
    await host.manager.pause('web');
    await create({ mode });
    expect(stateOf()).toBe('paused');
    for (const state of ['running', 'paused'] as const) {
      await host.manager.stop('web', { graceMs: 0 });
      expect(await snapshots.restore({ snapshot: 'one', state }, {})).toMatchObject({ state });
      expect(await host.manager.qmp('web', { execute: 'query-status' })).toMatchObject({ running: state === 'running' });
    }
  });

  test('has one name, and is not made of what is not there', async () => {
    await create();
    await expect(create()).rejects.toMatchObject({ code: 'CONFLICT' });
    await expect(create({ vm: 'none', name: 'two' })).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await host.manager.run(spec({ name: 'plain' }));
    await expect(create({ vm: 'plain', name: 'two' })).rejects.toMatchObject({ code: 'UNSUPPORTED', message: /mode stream/ });
    await expect(restore('none')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(restore()).rejects.toMatchObject({ code: 'WRONG_STATE' });
    expect(await readdir(kept)).toEqual(['one']);
  });

  const flip = async (path: string, at: number): Promise<void> => {
    const bytes = await readFile(path);
    bytes[at] = (bytes[at] ?? 0) ^ 1;
    await writeFile(path, bytes);
  };
  const replace = async (path: string): Promise<void> => {
    await copyFile(path, `${path}.other`);
    await rename(`${path}.other`, path);
  };

  test.each<[string, 'stream' | 'instant', (directory: string) => Promise<void>]>([
    ['a device state that was flipped', 'instant', (directory) => flip(join(directory, 'state'), 5_000)],
    ['a device state that was cut', 'instant', (directory) => truncate(join(directory, 'state'), 1_000)],
    ['a stream that was flipped', 'stream', (directory) => flip(join(directory, 'state'), 500_000)],
    ['a stream that was cut', 'stream', (directory) => truncate(join(directory, 'state'), 500_000)],
    ['RAM that was cut', 'instant', (directory) => truncate(join(directory, 'ram'), 1024 ** 2)],
    ['RAM that was replaced', 'instant', (directory) => replace(join(directory, 'ram'))],
    ['RAM that is gone', 'instant', (directory) => rm(join(directory, 'ram'))],
    ['a disk that was replaced', 'instant', (directory) => replace(join(directory, 'disk0.disk'))],
    ['a manifest that was cut', 'instant', (directory) => truncate(join(directory, 'manifest.json'), 100)],
  ])('with %s (%s) is refused; the VM stays as it was, and goes back to one that is whole', async (_, mode, damage) => {
    await create({ mode });
    await create({ mode, name: 'whole' });
    await host.manager.stop('web', { graceMs: 0 });
    const before = host.manager.get('web').spec;
    await damage(join(kept, 'one'));
    const error = await restore().then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    expect(error).toMatchObject({ code: expect.stringMatching(/^(WRONG_STATE|STORAGE_FAILED|PROCESS_FAILED)$/) });
    expect(host.manager.get('web')).toMatchObject({ state: 'stopped', spec: before });
    expect(await readdir(join(host.options.stateDir, 'vms', 'web', 'disks')).catch(() => [])).toEqual([]);
    expect(await restore('whole')).toMatchObject({ state: 'running' });
  });

  test('with RAM of which one bit was flipped is found by verify', async () => {
    await create();
    expect(await snapshots.verify({ snapshot: 'one' }, {})).toMatchObject({ ok: true });
    await using file = await open(join(kept, 'one', 'ram'), 'r+');
    await file.write(Buffer.from([1]), 0, 1, 40 * 1024 ** 2);
    const { ok, problems } = await snapshots.verify({ snapshot: 'one' }, {});
    expect(ok).toBe(false);
    expect(problems.join()).toMatch(/SHA-256 differs/);
  });

  test('whose guest saw another machine is refused with what differs', async () => {
    await create();
    await host.manager.stop('web', { graceMs: 0 });
    const path = join(kept, 'one', 'manifest.json');
    const manifest = JSON.parse(await readFile(path, 'utf8'));
    manifest.abi.devices.balloon0.addr = '07.0';
    await writeFile(path, JSON.stringify(manifest), { mode: 0o600 });
    await expect(restore()).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('addr of balloon0 was 07.0 and is 02.0'),
    });
  });
});
