/** What is told of commands on a running VM that the death of their agent cut off: before they have taken effect, and after. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { reconcilerOf } from '../../agent/rpc/reconcile.ts';
import { deviceReconcilers } from '../../agent/rpc/reconcile-devices.ts';
import { MEMORY_RECONCILERS } from '../../agent/rpc/reconcile-memory.ts';
import { DeviceOperations } from '../../agent/vm/devices/device-operations.ts';
import { MemoryResizer } from '../../agent/vm/memory/resize-memory.ts';
import type { AgentMethodName, ParamsInput } from '../../shared/protocol/methods.ts';
import { parseParams } from '../../shared/protocol/validate.ts';
import { linuxHost, runLinux, whyNoLinux } from '../support/linux-vm.ts';
import { nextEvent, silent, type TestHost } from '../support/vm.ts';

const missing = whyNoLinux();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

const MIB = 1024 ** 2;
/** A guest under emulation on a busy machine may do nothing for longer than the 10 s that a guest is given. */
const PATIENCE_MS = 60_000;

describe.skipIf(missing !== undefined)('of a command that its agent did not live to see the end of', () => {
  let host: TestHost;
  let devices: DeviceOperations;
  let directory: string;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'fl-cut-'));
    for (const name of ['data.raw', 'one.iso', 'two.iso']) await writeFile(join(directory, name), Buffer.alloc(MIB));
    host = await linuxHost();
    devices = new DeviceOperations({ vms: host.manager, logger: silent, checkPolicy: async () => {} });
    const disks = [{ media: 'cdrom', id: 'cd' } as const, { path: path('data.raw'), id: 'data' }];
    await runLinux(host.manager, { name: 'web', disks, memory: { bytes: '256MiB', maxBytes: '512MiB' } });
  });
  afterAll(async () => {
    await host[Symbol.asyncDispose]();
    await rm(directory, { recursive: true, force: true });
  });

  const path = (name: string) => join(directory, name);

  /** As if it had been accepted at that time, in this run of the VM. */
  function outcomeOf<M extends AgentMethodName>(method: M, params: ParamsInput<M>, acceptedAt = new Date().toISOString()) {
    const { uuid, generation, state } = host.manager.get('web');
    const before = { uuid, generation, state };
    // SAFETY: params of a method are an object.
    const json = params as Record<string, unknown>;
    const about = { id: 'c1', host: 'h1', vm: 'web', state: 'accepted', paramsDigest: '', attempts: 1 } as const;
    const reconcile = reconcilerOf(host.manager, { ...deviceReconcilers(devices), ...MEMORY_RECONCILERS });
    return reconcile({ ...about, method, params: json, acceptedAt, before }, { isAlone: true });
  }
  async function told<M extends AgentMethodName>(method: M, params: ParamsInput<M>): Promise<string> {
    const { outcome, reason } = await outcomeOf(method, params);
    return outcome === 'unknown' ? `unknown: ${reason}` : outcome;
  }

  test('on the size of a disk is told what the guest sees', async () => {
    const larger = { vm: 'web', id: 'data', bytes: 2 * MIB };
    expect(await told('disk.resize', larger)).toBe('not-done');
    await devices.resizeDisk(larger, {});
    expect(await told('disk.resize', larger)).toBe('done');
    expect(await told('disk.resize', { ...larger, bytes: MIB })).toMatch(/unknown: data has 2097152 bytes/);
    expect(await told('disk.resize', { ...larger, id: 'none' })).toMatch(/unknown: .*no disk none/);
  });

  test('on the limits of a disk is told what QEMU and the record have', async () => {
    const limited = { vm: 'web', id: 'data', throttle: { bytesPerSecond: 5 * MIB } };
    expect(await told('disk.throttle', limited)).toBe('not-done');
    await devices.throttleDisk(parseParams('disk.throttle', limited), {});
    expect(await told('disk.throttle', limited)).toBe('done');
    // QEMU alone has them: the record was to follow.
    const limits = { 'bps-total': 7 * MIB };
    const set = { path: '/objects/data-limits', property: 'limits', value: limits };
    await host.manager.qmp('web', { execute: 'qom-set', arguments: set });
    expect(await told('disk.throttle', { ...limited, throttle: { bytesPerSecond: 7 * MIB } })).toBe('not-done');
    expect(await told('disk.throttle', limited)).toBe('not-done');
  });

  test('on a CD drive is told what is in it', async () => {
    const insert = (name: string | undefined) => ({ vm: 'web', id: 'cd', ...(name !== undefined && { path: path(name) }) });
    expect(await told('medium.change', insert(undefined))).toBe('done');
    expect(await told('medium.change', insert('one.iso'))).toBe('not-done');
    await devices.changeMedium(parseParams('medium.change', insert('one.iso')), {});
    expect(await told('medium.change', insert('one.iso'))).toBe('done');
    expect(await told('medium.change', insert('two.iso'))).toBe('not-done');
    expect(await told('medium.change', insert(undefined))).toBe('not-done');
  });

  test('on the memory is told how much the guest has, or was offered', async () => {
    const resizer = new MemoryResizer(host.manager);
    const to = (mebibytes: number, wait: boolean) => ({ vm: 'web', bytes: mebibytes * MIB, wait });
    for (const mebibytes of [200, 256]) {
      expect(await told('vm.resizeMemory', to(mebibytes, true))).toBe('not-done');
      await resizer.resize(to(mebibytes, true), { stallMs: PATIENCE_MS });
      expect(await told('vm.resizeMemory', to(mebibytes, true))).toBe('done');
    }
    // Offered, and not taken: its CPUs stand still.
    await host.manager.pause('web');
    await resizer.resize(to(512, false), {});
    expect(await told('vm.resizeMemory', to(512, false))).toBe('done');
    expect(await told('vm.resizeMemory', to(512, true))).toBe('not-done');
    await resizer.resize(to(256, false), {});
    await host.manager.resume('web');
  });

  test('on its vsock is told whether the VM has one', async () => {
    const vsock = { readyPort: 1023 };
    expect(await told('vsock.detach', { vm: 'web' })).toBe('not-done');
    await devices.detachVsock({ vm: 'web' }, {});
    expect(await told('vsock.detach', { vm: 'web' })).toBe('done');
    expect(await told('vsock.attach', { vm: 'web', vsock })).toBe('not-done');
    await devices.attachVsock({ vm: 'web', vsock }, {});
    expect(await told('vsock.attach', { vm: 'web', vsock })).toBe('done');
    expect(await told('vsock.attach', { vm: 'web', vsock: { readyPort: 7 } })).toMatch(/unknown: the VM has another/);
  });

  test('to reset it is told if QEMU has told of one since', async () => {
    const reset = nextEvent(host.manager, 'vm.reset', 'web');
    const before = new Date().toISOString();
    expect(await told('vm.reset', { vm: 'web' })).toMatch(/unknown/);
    await host.manager.reset('web');
    await reset;
    expect(await outcomeOf('vm.reset', { vm: 'web' }, before)).toMatchObject({ outcome: 'done', result: { name: 'web' } });
    // Times are told in milliseconds, and this may be the one of the reset.
    const after = new Date(Date.now() + 1).toISOString();
    expect(await outcomeOf('vm.reset', { vm: 'web' }, after)).toMatchObject({ outcome: 'unknown' });
  });

  test('on a VM that does not run any more is told that it cannot be known', async () => {
    await host.manager.stop('web', { graceMs: 0 });
    expect(await told('disk.resize', { vm: 'web', id: 'data', bytes: 2 * MIB })).toMatch(/unknown: it could not be looked at/);
    expect(await told('vm.resizeMemory', { vm: 'web', bytes: 512 * MIB })).toMatch(/unknown: it could not be looked at/);
  });
});
