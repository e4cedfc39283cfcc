/** The real qemu-ga of the demo guest, over each of the two ways to it. */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { vhostUserTransport } from '../../agent/streams/vhost-user.ts';
import { Guests } from '../../agent/vm/guest-agent/guests.ts';
import { artefacts } from '../../cli/image/cache.ts';
import { demoImage } from '../../cli/image/demo-image.ts';
import type { ParamsInput } from '../../shared/protocol/methods.ts';
import { parseParams, parseResult } from '../../shared/protocol/validate.ts';
import type { VmSpecInput } from '../../shared/protocol/vm-spec.ts';
import { nextEvent, silent, spec, type TestHost, testHost, whyNoQemu } from '../support/vm.ts';

const image = demoImage();
const { vhostDeviceVsock } = artefacts();
const missing =
  whyNoQemu() ??
  (image === undefined || vhostDeviceVsock === undefined
    ? 'the guest image or vhost-device-vsock is not in the cache: npm run setup'
    : undefined);
if (missing !== undefined) console.warn(`skipped: ${missing}`);

const DISK_BYTES = 8 * 1024 ** 2;
/** The guest is up in seconds; a busy machine takes longer. */
const answerTimeoutMs = 60_000;

const WAYS: readonly (Pick<VmSpecInput, 'machine' | 'guestAgent' | 'vsock'> & { way: string })[] = [
  { way: 'virtio-serial on q35', machine: 'q35', guestAgent: { via: 'virtio-serial' } },
  { way: 'vsock on microvm', machine: 'microvm', guestAgent: { via: 'vsock' }, vsock: { readyPort: 1023 } },
];

describe.skipIf(missing !== undefined).each(WAYS)('qemu-ga over $way', ({ machine, guestAgent, vsock }) => {
  let directory: string;
  let host: TestHost;
  let guests: Guests;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'fl-qga-'));
    const disk = join(directory, 'disk.img');
    writeFileSync(disk, Buffer.alloc(DISK_BYTES));
    execFileSync('mke2fs', ['-q', '-t', 'ext4', disk], {
      env: { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin:/sbin` },
    });
    const transport = vhostUserTransport({ binary: vhostDeviceVsock ?? '', logger: silent });
    host = await testHost({ vsock: { available: true, transport } });
    const { kernel, initrd, args } = image ?? {};
    const boot = { kernel, initrd, args };
    await host.manager.run(
      spec({ name: 'web', memory: { bytes: '192MiB' }, boot, disks: [{ path: disk }], machine, guestAgent, vsock }),
    );
    guests = new Guests(host.manager, silent);
    await ping();
    await mountDisk();
  }, 120_000);
  afterAll(async () => {
    guests[Symbol.dispose]();
    await host[Symbol.asyncDispose]();
    await rm(directory, { recursive: true });
  });

  const ping = async () => guests.ping({ vm: 'web', answerTimeoutMs }, {});
  const exec = async (params: Omit<ParamsInput<'guest.exec'>, 'vm'>) =>
    parseResult(
      'guest.exec',
      await guests.exec(parseParams('guest.exec', { vm: 'web', answerTimeoutMs, timeoutMs: 60_000, ...params }), {}),
    );
  const sh = (script: string, more: Partial<ParamsInput<'guest.exec'>> = {}) =>
    exec({ path: 'sh', args: ['-c', script], ...more });
  async function mountDisk(): Promise<void> {
    const { ended, stderr } = await sh('mkdir -p /tmp/disk && mount -t ext4 /dev/vda /tmp/disk');
    if (ended.by !== 'exit' || ended.code !== 0) throw new Error(`could not mount the disk: ${stderr}`);
  }
  const freeze = (params: Omit<ParamsInput<'guest.fsfreeze'>, 'vm'>) =>
    guests.fsfreeze(parseParams('guest.fsfreeze', { vm: 'web', answerTimeoutMs, ...params }), {});

  test('answers, and says what it is', async () => {
    expect((await ping()).roundTripMs).toBeGreaterThan(0);
    const info = parseResult('guest.info', await guests.info({ vm: 'web', answerTimeoutMs }, {}));
    expect(info).toMatchObject({
      agentVersion: expect.stringMatching(/^\d+\.\d+/),
      commands: expect.arrayContaining(['guest-exec', 'guest-ping']),
      hostname: 'fairlead-guest',
      os: { kernel: expect.stringContaining('cloud'), machine: 'x86_64' },
      networks: expect.arrayContaining([
        { name: 'lo', mac: expect.any(String), addresses: expect.arrayContaining(['127.0.0.1/8']) },
      ]),
    });
  });

  test('runs programs: code, signal, both outputs, input and environment', async () => {
    expect(await sh('echo out; echo err >&2; exit 3')).toMatchObject({
      ended: { by: 'exit', code: 3 },
      stdout: 'out\n',
      stderr: 'err\n',
      stdoutCutBytes: 0,
    });
    expect((await sh('kill -TERM $$')).ended).toEqual({ by: 'signal', signal: 15 });
    expect((await sh('cat', { input: 'ünd "quoted"\n' })).stdout).toBe('ünd "quoted"\n');
    expect((await sh('echo $A', { env: { A: 'b=c', PATH: '/bin' } })).stdout).toBe('b=c\n');
    const bytes = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)).toString('base64');
    expect((await exec({ path: 'cat', input: bytes, encoding: 'base64' })).stdout).toBe(bytes);
    await expect(exec({ path: '/no/such/program' })).rejects.toMatchObject({ code: 'GUEST_FAILED' });
  });

  test('gives the beginning of a long output and counts the rest', async () => {
    const result = await sh('head -c 3000000 /dev/zero | tr "\\0" x; echo end >&2', { maxOutputBytes: 1000 });
    expect(result).toMatchObject({ stdout: 'x'.repeat(1000), stdoutCutBytes: 2_999_000, stderr: 'end\n' });
  });

  test('kills a program that does not end, its children too, and one that nobody waits for any more', async () => {
    const timedOut = await sh('echo begun; sleep 4321 & sleep 4321', { timeoutMs: 2_000 });
    expect(timedOut).toMatchObject({ ended: { by: 'timeout', killed: true }, stdout: 'begun\n' });

    const caller = new AbortController();
    const params = parseParams('guest.exec', {
      vm: 'web',
      path: 'sh',
      args: ['-c', 'touch /tmp/begun; sleep 4321 & sleep 4321'],
    });
    const running = guests.exec({ ...params, answerTimeoutMs }, { signal: caller.signal });
    expect((await sh('until [ -e /tmp/begun ]; do usleep 10000; done')).ended).toEqual({ by: 'exit', code: 0 });
    caller.abort();
    await expect(running).rejects.toMatchObject({ code: 'CANCELLED' });
    const none = 'while ps | grep -v grep | grep "sleep 4321"; do usleep 10000; done';
    expect(await sh(none)).toMatchObject({ ended: { by: 'exit', code: 0 } });
  });

  test('many programs run side by side', async () => {
    const results = await Promise.all(Array.from({ length: 8 }, (_, index) => sh(`sleep 0.2; echo ${index}`)));
    expect(results.map(({ stdout }) => stdout)).toEqual(Array.from({ length: 8 }, (_, index) => `${index}\n`));
  });

  test('holds its writes and lets them go, by hand, after its time, and after the agent was away', async () => {
    expect(await freeze({ action: 'status' })).toEqual({ status: 'thawed', fileSystems: 0 });
    expect(await freeze({ action: 'freeze', holdMs: 600_000 })).toMatchObject({ status: 'frozen', fileSystems: 1 });
    expect(await freeze({ action: 'freeze', holdMs: 600_000 })).toMatchObject({ status: 'frozen', fileSystems: 0 });
    await expect(sh('true')).rejects.toMatchObject({ code: 'WRONG_STATE' });
    expect(await freeze({ action: 'thaw' })).toEqual({ status: 'thawed', fileSystems: 1 });
    expect((await sh('echo hi > /tmp/disk/file && sync')).ended).toEqual({ by: 'exit', code: 0 });

    await freeze({ action: 'freeze', holdMs: 1 });
    await expect.poll(() => freeze({ action: 'status' }), { timeout: 60_000 }).toEqual({ status: 'thawed', fileSystems: 0 });

    const { thawsAt = '' } = await freeze({ action: 'freeze', holdMs: 2_000 });
    guests[Symbol.dispose]();
    guests = new Guests(await host.restart(), silent);
    expect(await freeze({ action: 'status' })).toEqual({ status: 'frozen', fileSystems: 0, thawsAt });
    await guests.takeUp();
    await expect.poll(() => freeze({ action: 'status' }), { timeout: 60_000 }).toEqual({ status: 'thawed', fileSystems: 0 });
    const notes = () => readdir(join(host.options.stateDir, 'vms', 'web'));
    await expect.poll(notes, { timeout: 60_000 }).not.toContain('frozen.json');
  });

  test('sets its clock', async () => {
    const time = '2031-02-03T04:05:06.000Z';
    await guests.setTime({ vm: 'web', time, answerTimeoutMs }, {});
    expect((await sh('date -u +%Y-%m-%dT%H')).stdout).toBe('2031-02-03T04\n');
    await guests.setTime({ vm: 'web', answerTimeoutMs }, {});
    expect(Math.abs(Number((await sh('date +%s')).stdout) - Date.now() / 1000)).toBeLessThan(300);
  });

  test('is spoken with again after a reset, and what ran then is told as lost', async () => {
    const running = sh('touch /tmp/going; sleep 4321', { timeoutMs: 300_000 });
    const lost = Promise.allSettled([running]);
    await sh('until [ -e /tmp/going ]; do usleep 10000; done');
    await host.manager.reset('web');
    await lost;
    await expect(running).rejects.toMatchObject({ code: 'INTERRUPTED' });
    await ping();
  });

  test('shuts its guest down when it is asked to, frozen or not', async () => {
    await mountDisk();
    await freeze({ action: 'freeze', holdMs: 600_000 });
    const stopped = nextEvent(host.manager, 'vm.stopped');
    await guests.shutdown({ vm: 'web', mode: 'powerdown', answerTimeoutMs }, {});
    expect((await stopped).data).toMatchObject({ reason: 'guest-shutdown' });
    await expect(ping()).rejects.toMatchObject({ code: 'WRONG_STATE' });
  });
});

describe.skipIf(missing !== undefined)('a guest without an agent', () => {
  test('is told as unreachable, with what to do', async () => {
    await using host = await testHost();
    using guests = new Guests(host.manager, silent);
    await host.manager.run(spec({ name: 'none' }));
    await host.manager.run(spec({ name: 'silent', guestAgent: { via: 'virtio-serial' } }));
    await expect(guests.ping({ vm: 'none', answerTimeoutMs: 0 }, {})).rejects.toMatchObject({
      code: 'GUEST_UNREACHABLE',
      message: expect.stringContaining('give it spec.guestAgent'),
    });
    await expect(guests.ping({ vm: 'silent', answerTimeoutMs: 300 }, {})).rejects.toMatchObject({
      code: 'GUEST_UNREACHABLE',
      message: expect.stringContaining('is qemu-guest-agent installed'),
    });
  });
});
