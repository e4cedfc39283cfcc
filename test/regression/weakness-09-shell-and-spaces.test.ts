/**
 * Weakness 9: RAM was saved through a shell command that QEMU ran, with the path unquoted in it: a space wrote elsewhere, and under a
 * sandbox that denies spawning QEMU died of it, so there was no sandbox.
 */
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import * as net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { spec, testHost, whyNoQemu } from '../support/vm.ts';

const missing = whyNoQemu();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

test.skipIf(missing !== undefined)('a VM in folders with spaces and separators writes there and nowhere else', async () => {
  const outer = await mkdtemp(join(tmpdir(), 'fl-'));
  try {
    const folder = join(outer, `a b,c=d;'"$(e) ü`);
    await mkdir(folder);
    await using host = await testHost({ stateDir: join(folder, 'state'), runDir: join(folder, 'r') });
    await host.manager.run(spec({ name: 'web', guestAgent: {}, memory: { bytes: '64MiB', backing: 'file' } }));
    expect(await host.manager.stop('web', { graceMs: 0 })).toMatchObject({ endedBy: 'quit' });
    expect(await readdir(outer)).toHaveLength(1);
    expect((await readdir(join(folder, 'state', 'vms', 'web', 'logs'))).sort()).toEqual(['console.log', 'qemu.log']);
  } finally {
    await rm(outer, { recursive: true, force: true });
  }
});

test.skipIf(missing !== undefined)(
  'RAM leaves a VM in its sandbox through a socket of ours, whose path has a space',
  async () => {
    await using host = await testHost();
    const { pid = 0 } = await host.manager.run(spec({ name: 'web' }));
    const path = join(host.options.stateDir, 'to us.sock');
    let received = 0;
    const server = net.createServer((socket) => {
      socket.on('data', ({ length }) => {
        received += length;
      });
      socket.once('end', () => server.close());
    });
    server.listen(path);
    await once(server, 'listening');
    const closed = once(server, 'close');
    await host.manager.qmp('web', { execute: 'migrate', arguments: { uri: `unix:${path}` } });
    await closed;
    await expect.poll(() => host.manager.qmp('web', { execute: 'query-migrate' })).toMatchObject({ status: 'completed' });
    expect(received).toBeGreaterThan(100_000);
    expect(host.manager.get('web')).toMatchObject({ pid });
  },
);
