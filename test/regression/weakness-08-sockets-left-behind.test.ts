/**
 * Weakness 8: a QEMU that was killed left its socket, the socket made the VM's state unknown, and a VM of unknown state could be neither
 * started nor stopped: only deleted.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { identityOf } from '../../agent/process-identity.ts';
import { nextEvent, spec, testHost, whyNoQemu } from '../support/vm.ts';

const missing = whyNoQemu();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

test.skipIf(missing !== undefined)('a VM whose QEMU was killed while no agent was there starts again', async () => {
  await using host = await testHost();
  const { pid = 0 } = await host.manager.run(spec({ name: 'web' }));
  await host.manager.close();
  process.kill(pid, 'SIGKILL');
  await expect.poll(() => identityOf(pid)).toBeUndefined();
  expect(existsSync(join(host.options.runDir, 'web', 'qmp.sock')), 'QEMU has left its socket').toBe(true);

  const manager = await host.restart();
  expect(manager.get('web')).toMatchObject({ state: 'crashed', exit: { reason: 'lost' } });
  expect(await manager.start('web')).toMatchObject({ state: 'running', generation: 2 });
});

test.skipIf(missing !== undefined)('a VM whose QEMU was killed before the eyes of its agent starts again', async () => {
  await using host = await testHost();
  const { manager } = host;
  const { pid = 0 } = await manager.run(spec({ name: 'web' }));
  const crashed = nextEvent(manager, 'vm.crashed');
  process.kill(pid, 'SIGKILL');
  await crashed;
  expect(await manager.stop('web')).toMatchObject({ endedBy: 'already-stopped' });
  expect(await manager.start('web')).toMatchObject({ state: 'running' });
});
