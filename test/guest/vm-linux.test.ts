/** The supervisor with a real Linux guest behind a real vsock device. */
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { vhostUserTransport } from '../../agent/streams/vhost-user.ts';
import { artefacts } from '../../cli/image/cache.ts';
import type { VmSpec } from '../../shared/protocol/vm-spec.ts';
import { nextEvent, silent, spec, type TestHost, testHost, whyNoQemu } from '../support/vm.ts';

const { vmlinux, initrd, vhostDeviceVsock } = artefacts();
const missing =
  whyNoQemu() ??
  (vmlinux === undefined || initrd === undefined || vhostDeviceVsock === undefined
    ? 'the guest image or vhost-device-vsock is not in the cache: npm run setup'
    : undefined);
if (missing !== undefined) console.warn(`skipped: ${missing}`);

const ECHO_PORT = 7;
const RUN_PORT = 1024;
const READY_PORT = 1023;
const NOBODYS_PORT = 4444;
const CONNECT_MS = 30_000;
/** What ends within it has not waited it out. */
const LONGER_THAN_A_TEST_MS = 3_600_000;

function linux(name: string, machine: VmSpec['machine']): VmSpec {
  return spec({
    name,
    machine,
    memory: { bytes: '256MiB' },
    boot: { kernel: vmlinux, initrd, args: 'console=ttyS0 reboot=t panic=-1 quiet' },
    vsock: { readyPort: READY_PORT },
  });
}

describe.skipIf(missing !== undefined).each(['q35', 'microvm'] as const)('a Linux guest on %s', (machine) => {
  let host: TestHost;
  beforeAll(async () => {
    const transport = vhostUserTransport({ binary: vhostDeviceVsock ?? '', logger: silent });
    host = await testHost({ vsock: { available: true, transport } });
    const ready = nextEvent(host.manager, 'vm.ready');
    await host.manager.run(linux('web', machine));
    await ready;
  });
  afterAll(() => host[Symbol.asyncDispose]());

  const open = (port: number, connectTimeoutMs = CONNECT_MS) => host.manager.openStream({ vm: 'web', port, connectTimeoutMs });

  async function run(command: string): Promise<string> {
    const { stream } = await open(RUN_PORT);
    stream.write(`${command}\n`);
    return readAll(stream);
  }

  test('says that it is ready, and is reached', async () => {
    expect(host.manager.get('web')).toMatchObject({ ready: true, vsock: { cid: 3, transport: 'vhost-user', halfClose: false } });
    expect(await run('echo hello from $(uname -s)')).toContain('hello from Linux');
  });

  test('refuses a port where nothing listens, with its state and the end of its console', async () => {
    await expect(open(NOBODYS_PORT)).rejects.toMatchObject({
      code: 'GUEST_REFUSED',
      message: expect.stringMatching(
        /^nothing listens on vsock port 4444 of VM web: it is running and ready; its console ends with "/,
      ),
      details: { state: 'running', ready: true, consoleTail: expect.stringContaining('FAIRLEAD GUEST READY') },
    });
  });

  test('that is paused is not reached, and is again when it goes on', async () => {
    await host.manager.pause('web');
    await expect(open(ECHO_PORT, 700)).rejects.toMatchObject({ code: 'GUEST_UNREACHABLE', details: { state: 'paused' } });
    const opening = run('echo again');
    await host.manager.resume('web');
    expect(await opening).toContain('again');
  });

  test('that is reset ends its streams, is not ready, and is reached again when it is', async () => {
    const { stream, generation } = await open(ECHO_PORT);
    stream.write('hi');
    await once(stream, 'data');
    const failed = once(stream, 'error');
    const ready = nextEvent(host.manager, 'vm.ready');
    expect(await host.manager.reset('web')).toMatchObject({ state: 'running', ready: false, generation });
    expect(await failed).toMatchObject([{ code: 'STREAM_RESET', message: 'the stream into VM web was reset: the VM was reset' }]);
    expect(await run('echo back')).toContain('back');
    await ready;
    expect(host.manager.get('web')).toMatchObject({ ready: true, generation });
  });

  test('that reboots by itself does the same', async () => {
    const { stream } = await open(ECHO_PORT);
    const failed = once(stream, 'error');
    const [reset, ready] = [nextEvent(host.manager, 'vm.reset'), nextEvent(host.manager, 'vm.ready')];
    const { stream: shell } = await open(RUN_PORT);
    shell.on('error', () => {});
    shell.write('reboot -f\n');
    expect(await reset).toMatchObject({ data: { guest: true } });
    expect(await failed).toMatchObject([{ code: 'STREAM_RESET' }]);
    await ready;
    expect(await run('echo back')).toContain('back');
  });

  test('is found again by an agent that comes back, with its vsock', async () => {
    const { pid } = host.manager.get('web');
    await host.restart();
    expect(host.manager.get('web')).toMatchObject({ state: 'running', ready: true, pid });
    expect(await run('echo still here')).toContain('still here');
  });

  test('shuts down when its power button is pressed, and its console is kept', async () => {
    expect(await host.manager.stop('web', { graceMs: 30_000 })).toMatchObject({
      endedBy: 'guest',
      vm: { state: 'stopped', ready: false, exit: { reason: 'guest-shutdown' } },
    });
    const log = await readFile(join(host.options.stateDir, 'vms', 'web', 'logs', 'console.log'), 'utf8');
    expect(log.match(/FAIRLEAD GUEST READY/g)).toHaveLength(3);
    await expect(open(ECHO_PORT)).rejects.toMatchObject({ code: 'WRONG_STATE' });
  });

  test('that is killed while somebody waits for it fails the wait at once', async () => {
    await host.manager.start('web');
    const opening = open(ECHO_PORT, LONGER_THAN_A_TEST_MS);
    opening.catch(() => {});
    process.kill(host.manager.get('web').pid ?? 0, 'SIGKILL');
    await expect(opening).rejects.toMatchObject({ code: 'WRONG_STATE' });
  });
});

async function readAll(stream: Duplex): Promise<string> {
  let text = '';
  for await (const chunk of stream) text += String(chunk);
  return text;
}
