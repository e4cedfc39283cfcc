/**
 * Symptom: `fairlead up` passed over the agent's variables without a word: a host's owner who set FAIRLEAD_AGENT_IMAGE_ROOTS had guests that
 * could be given any file, and tests that chose another QEMU ran on the installed one.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { connectHub } from '../../cli/connection.ts';
import { startUp } from '../../scripts/demo/up-process.ts';

test('the agent of `fairlead up` is set by its variables, but for its line and its place', async () => {
  await using scope = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), 'fl-up-'));
  scope.defer(() => rm(directory, { recursive: true, force: true }));
  const settings = {
    FAIRLEAD_AGENT_QEMU_BINARY: '/usr/bin/true',
    FAIRLEAD_AGENT_IMAGE_ROOTS: '/srv/images',
    FAIRLEAD_AGENT_HUB: 'wss://elsewhere.example',
    FAIRLEAD_AGENT_TOKEN: 'of-elsewhere',
    FAIRLEAD_AGENT_STATE_DIR: '/nowhere',
  };
  Object.assign(process.env, settings);
  scope.defer(() => {
    for (const name of Object.keys(settings)) delete process.env[name];
  });
  const up = await startUp(directory);
  scope.defer(() => up.stop());
  await using hub = await connectHub(up.context, { timeoutMs: 30_000 });

  const spec = { name: 'web', disks: [{ path: '/etc/hostname' }] };
  await expect(hub.call('vm.create', { spec })).rejects.toMatchObject({
    code: 'PERMISSION_DENIED',
    message: expect.stringContaining('/srv/images'),
  });
  const { qemu } = await hub.call('host.info', {}, 'demo-host');
  expect(qemu).toMatchObject({ available: false, reason: expect.stringContaining('/usr/bin/true') });
});
