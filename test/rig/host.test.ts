/**
 * A host with KVM, vhost, an IOMMU, huge pages, btrfs and control groups: programs of this folder run inside one rig, one after another.
 * Each leaves the rig as it found it, but for those at the end.
 */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, describe, expect, test } from 'vitest';
import { asanInRig } from '../support/rig/asan-files.ts';
import { held, PROGRAM_TEST_MS, programOf } from '../support/rig/program.ts';
import { whyNoRig } from '../support/rig/rig.ts';
import { SharedRig } from '../support/rig/shared-rig.ts';

const reason = whyNoRig();
if (reason !== undefined) console.log(`skipped: ${reason}`);
const asan = asanInRig();
const skippedAsan = 'reason' in asan ? ` (skipped: ${asan.reason})` : '';

const SPARE_CARDS = 3;
const DISK_MEBIBYTES = 512;

describe.skipIf(reason !== undefined)('a host in a VM', { timeout: PROGRAM_TEST_MS }, () => {
  const sanitized = 'reason' in asan ? {} : asan.files;
  const files = { 'greeting.txt': 'good morning\n', ...sanitized };
  const rig = new SharedRig({ spareCards: SPARE_CARDS, diskMebibytes: DISK_MEBIBYTES, files });
  afterAll(() => rig[Symbol.asyncDispose]());

  const outcome = (program: string) => rig.outcome(programOf(program));

  test('has KVM, vhost-vsock, Node, the project, and a way out to this machine', async () => {
    await using server = await listenForRequests('hello from outside\n');
    const run = (command: string) => rig.use((inside) => inside.run(command));
    expect(await run('ls /dev/kvm /dev/vhost-vsock')).toEqual({
      exitCode: 0,
      stdout: '/dev/kvm\n/dev/vhost-vsock',
      stderr: '',
    });
    expect(await run('cat greeting.txt; echo complaint >&2; exit 3')).toEqual({
      exitCode: 3,
      stdout: 'good morning',
      stderr: 'complaint',
    });
    expect((await run(`node -p "process.version + ' ' + process.cwd()"`)).stdout).toBe(`${process.version} /fairlead`);
    const large = await run(`node -e "process.stdout.write(('x'.repeat(99) + '\\n').repeat(2000))"`);
    expect(large.stdout.length).toBe(2000 * 100 - 1);
    const fetched = await run(`wget -q -O - http://10.0.2.2:${server.port}/`);
    expect(fetched).toEqual({ exitCode: 0, stdout: 'hello from outside', stderr: '' });
  });

  test('guests are put to sleep, saved and cloned with their RAM in huge pages and on btrfs', async () => {
    expect(await outcome('ram-places')).toEqual(held(4));
  });

  test('the add-on connects, listens, half-closes and holds back over the loopback', async () => {
    expect(await outcome('native-loopback')).toEqual(held(20));
  });

  test('the add-on reserves CIDs and keeps its time with guests that do not answer', async () => {
    expect(await outcome('native-cid')).toEqual(held(9));
  });

  test.skipIf('reason' in asan)(`the add-on does all of that without a finding of the sanitizers${skippedAsan}`, async () => {
    const prefix = 'reason' in asan ? '' : asan.prefix;
    expect(await rig.outcome(`${prefix}${programOf('native-loopback')} 1`)).toEqual(held(20));
    expect(await rig.outcome(`${prefix}${programOf('native-cid')}`)).toEqual(held(9));
  });

  test('AF_VSOCK carries streams to guests and from them, with half-close', async () => {
    expect(await outcome('af-vsock-transport')).toEqual(held(9));
  });

  test('a VM with a vsock of the kernel is suspended and resumed with it, and goes on after its host has lost its power', async () => {
    expect(await outcome('vm-suspend')).toEqual(held(7));
    await rig.use((inside) => inside.reset());
    expect(await outcome('vm-after-reset')).toEqual(held(4));
  });

  test('a VM and three clones of it have a vsock of the kernel each, and streams into all of them at once', async () => {
    expect(await outcome('vm-clone')).toEqual(held(4));
  });

  test('VMs are held to what their spec is worth by control groups', async () => {
    expect(await outcome('cgroups')).toEqual(held(5));
  });

  test('a VM is given networks that the kernel moves by vhost-net, and PCI devices in all three forms', async () => {
    expect(await outcome('host-devices')).toEqual(held(9));
  });

  test('tells of a command that is too slow what it printed', async () => {
    const slow = rig.use((inside) => inside.run('echo started; sleep 60', { timeoutMs: 1000 }));
    await expect(slow).rejects.toThrow(/took longer than 1000 ms[^]*started/);
  });
});

async function listenForRequests(answer: string): Promise<AsyncDisposable & { port: number }> {
  const server = createServer((_, response) => response.end(answer));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  // SAFETY: a server that listens on TCP has an address of this form.
  const { port } = server.address() as AddressInfo;
  return {
    port,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
