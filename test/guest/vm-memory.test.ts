/** The memory of a running guest, changed by balloon and virtio-mem, as the guest itself counts it. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MemoryResizer, type ResizeOptions } from '../../agent/vm/memory/resize-memory.ts';
import { parseParams } from '../../shared/protocol/validate.ts';
import { inGuest, linuxHost, runLinux, whyNoLinux } from '../support/linux-vm.ts';
import { spec, type TestHost, testHost, whyNoQemu } from '../support/vm.ts';

const missing = whyNoLinux();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

const MIB = 1024 ** 2;
/** How far the guest's own count may be off: its page tables and its small allocations change with the size. */
const SLACK_BYTES = 12 * MIB;
/** A guest under emulation on a busy machine may do nothing for longer than the 10 s that a guest is given. */
const PATIENCE_MS = 60_000;

function resizer(host: TestHost) {
  const memory = new MemoryResizer(host.manager);
  return (vm: string, bytes: number, options: ResizeOptions & { wait?: boolean } = {}) =>
    memory.resize(parseParams('vm.resizeMemory', { vm, bytes, ...(options.wait === false && { wait: false }) }), options);
}

describe.skipIf(missing !== undefined)('a Linux guest with 256 MiB of at most 512', () => {
  let host: TestHost;
  beforeAll(async () => {
    host = await linuxHost();
    await runLinux(host.manager, { name: 'web', memory: { bytes: '256MiB', maxBytes: '512MiB' } });
  });
  afterAll(() => host[Symbol.asyncDispose]());

  const resize = (mib: number, options?: ResizeOptions & { wait?: boolean }) =>
    resizer(host)('web', mib * MIB, { stallMs: PATIENCE_MS, ...options });
  const actualMib = () => (host.manager.get('web').memory?.actualBytes ?? 0) / MIB;
  async function counted(what: 'MemTotal' | 'MemFree'): Promise<number> {
    const text = await inGuest(host.manager, 'web', 'cat /proc/meminfo');
    return Number(new RegExp(`${what}:\\s+(\\d+) kB`).exec(text)?.[1]) * 1024;
  }
  async function expectCounted(what: 'MemTotal' | 'MemFree', bytes: number): Promise<void> {
    expect(Math.abs((await counted(what)) - bytes)).toBeLessThan(SLACK_BYTES);
  }

  test('gives up memory to its balloon, and takes it back', async () => {
    // A balloon that is let out when memory is short is no loss of memory to Linux, but memory in use.
    const free = await counted('MemFree');
    expect(actualMib()).toBe(256);
    const steps: number[] = [];
    const progress = { onProgress: ({ actualBytes }: { actualBytes: number }) => void steps.push(actualBytes) };
    expect(await resize(200, progress)).toEqual({ targetBytes: 200 * MIB, actualBytes: 200 * MIB });
    expect(steps.at(-1)).toBe(200 * MIB);
    expect(actualMib()).toBe(200);
    await expectCounted('MemFree', free - 56 * MIB);
    expect(await resize(256)).toEqual({ targetBytes: 256 * MIB, actualBytes: 256 * MIB });
    await expectCounted('MemFree', free);
  });

  test('takes memory beyond what it was started with, and gives it back', async () => {
    const total = await counted('MemTotal');
    await resize(512);
    expect(actualMib()).toBe(512);
    await expectCounted('MemTotal', total + 256 * MIB);
    await resize(300);
    await expectCounted('MemTotal', total + 44 * MIB);
    await resize(200);
    expect(actualMib()).toBe(200);
    await expectCounted('MemTotal', total);
    await resize(256);
    expect(actualMib()).toBe(256);
  });

  test('is only asked where nobody waits', async () => {
    expect(await resize(320, { wait: false })).toMatchObject({ targetBytes: 320 * MIB });
    expect(await resize(320)).toEqual({ targetBytes: 320 * MIB, actualBytes: 320 * MIB });
    await resize(256);
  });

  test('says how far it got when it cannot give that much', async () => {
    const failing = resize(32, { stallMs: 2_000 });
    await expect(failing).rejects.toMatchObject({
      code: 'GUEST_UNRESPONSIVE',
      details: { targetBytes: 32 * MIB, startBytes: 256 * MIB, actualBytes: expect.any(Number) },
    });
    await resize(256);
  });

  test('takes only sizes that its devices can have', async () => {
    await expect(resize(513)).rejects.toMatchObject({ code: 'INVALID_PARAMS', message: expect.stringContaining('is 512MiB') });
    await expect(resize(301)).rejects.toMatchObject({ code: 'INVALID_PARAMS', message: expect.stringContaining('to 302MiB') });
    await expect(resize(200.5)).rejects.toMatchObject({ code: 'INVALID_PARAMS', message: expect.stringContaining('MiB') });
    expect(actualMib()).toBe(256);
  });

  test('is known to a new agent as it is', async () => {
    await resize(384);
    await host.restart();
    expect(actualMib()).toBe(384);
    await resize(256);
    expect(actualMib()).toBe(256);
  });
});

describe.skipIf(whyNoQemu() !== undefined)('a guest without drivers', () => {
  let host: TestHost;
  beforeAll(async () => {
    host = await testHost();
    await host.manager.run(spec({ name: 'deaf', memory: { bytes: '64MiB', maxBytes: '128MiB' } }));
    await host.manager.run(spec({ name: 'fixed', machine: 'microvm', devices: { balloon: false } }));
  });
  afterAll(() => host[Symbol.asyncDispose]());

  test('does not follow, either way', async () => {
    const resize = resizer(host);
    for (const mib of [32, 128]) {
      await expect(resize('deaf', mib * MIB, { stallMs: 300 })).rejects.toMatchObject({
        code: 'GUEST_UNRESPONSIVE',
        message: expect.stringContaining(`it has 64MiB of the ${mib}MiB wanted`),
        details: { actualBytes: 64 * MIB },
      });
    }
  });

  test('answers before the time of its caller is over', async () => {
    const failing = resizer(host)('deaf', 32 * MIB, { timeoutMs: 1_500 });
    await expect(failing).rejects.toMatchObject({ code: 'GUEST_UNRESPONSIVE' });
  });

  test('lets a later resize take the place of one that waits, and a stop pass', async () => {
    const memory = new MemoryResizer(host.manager);
    const waiting = Promise.withResolvers<void>();
    const first = memory.resize({ vm: 'deaf', bytes: 32 * MIB, wait: true }, { stallMs: 60_000, onWait: waiting.resolve });
    first.catch(() => {});
    await waiting.promise;
    const second = memory.resize({ vm: 'deaf', bytes: 48 * MIB, wait: true }, { stallMs: 60_000 });
    second.catch(() => {});
    await expect(first).rejects.toMatchObject({ code: 'CONFLICT', message: expect.stringContaining('one to 48MiB') });
    await host.manager.stop('deaf', { graceMs: 0 });
    await expect(second).rejects.toMatchObject({ code: expect.stringMatching(/WRONG_STATE|INTERRUPTED/) });
    await expect(memory.resize({ vm: 'deaf', bytes: 32 * MIB, wait: true }, {})).rejects.toMatchObject({ code: 'WRONG_STATE' });
  });

  test('without balloon and memory device is refused', async () => {
    const resize = resizer(host);
    await expect(resize('fixed', 32 * MIB)).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('balloon'),
    });
    await expect(resize('fixed', 128 * MIB)).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('maxBytes'),
    });
    expect(await resize('fixed', 64 * MIB)).toEqual({ targetBytes: 64 * MIB, actualBytes: 64 * MIB });
  });
});
