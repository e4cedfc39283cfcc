/** The rig itself: that a host in a VM is what the tests in this folder take it for. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, expect, test } from 'vitest';
import { startRig, whyNoRig } from '../support/rig/rig.ts';

const reason = whyNoRig();

describe.skipIf(reason !== undefined)(`the rig${reason === undefined ? '' : ` (skipped: ${reason})`}`, () => {
  test('has KVM, vhost-vsock, Node, the project, and a way out to this machine', async () => {
    await using server = await listenForRequests('hello from outside\n');
    await using rig = await startRig({ files: { 'greeting.txt': 'good morning\n' } });

    expect(await rig.run('ls /dev/kvm /dev/vhost-vsock')).toEqual({
      exitCode: 0,
      stdout: '/dev/kvm\n/dev/vhost-vsock',
      stderr: '',
    });
    expect(await rig.run('cat greeting.txt; echo complaint >&2; exit 3')).toEqual({
      exitCode: 3,
      stdout: 'good morning',
      stderr: 'complaint',
    });
    const node = await rig.run(`node -p "process.version + ' ' + process.cwd()"`);
    expect(node.stdout).toBe(`${process.version} /fairlead`);
    const large = await rig.run(`node -e "process.stdout.write(('x'.repeat(99) + '\\n').repeat(2000))"`);
    expect(large.stdout.length).toBe(2000 * 100 - 1);
    const fetched = await rig.run(`wget -q -O - http://10.0.2.2:${server.port}/`);
    expect(fetched).toEqual({ exitCode: 0, stdout: 'hello from outside', stderr: '' });
  });

  test('tells a command that is too slow with what it printed', async () => {
    await using rig = await startRig({ light: true });
    await expect(rig.run('echo started; sleep 60', { timeoutMs: 1000 })).rejects.toThrow(/took longer than 1000 ms[^]*started/);
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
