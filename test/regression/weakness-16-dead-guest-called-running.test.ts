/** Weakness 16: a guest that had panicked, or whose disk had failed, was said to run. */
import { expect, test } from 'vitest';
import { bootSectorVm } from '../support/boot-sector.ts';
import { nextEvent, testHost, whyNoQemu } from '../support/vm.ts';

const missing = whyNoQemu();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

test.skipIf(missing !== undefined)('a guest that panics is panicked, also for an agent that comes later', async () => {
  await using host = await testHost();
  const panicked = nextEvent(host.manager, 'vm.panicked');
  await host.manager.run(await bootSectorVm(host, { name: 'web' }, { does: 'panic' }));
  expect(await panicked).toMatchObject({ state: 'panicked' });
  const manager = await host.restart();
  expect(manager.get('web').state).toBe('panicked');
  await expect(manager.pause('web')).rejects.toMatchObject({ code: 'WRONG_STATE', details: { state: 'panicked' } });
  const again = nextEvent(manager, 'vm.panicked');
  expect(await manager.reset('web')).toMatchObject({ state: 'running' });
  await again;
});

test.skipIf(missing !== undefined)(
  'a guest whose disk was full for one write is stopped with io-error, and does that write again when it goes on',
  async () => {
    await using host = await testHost();
    const { manager } = host;
    await manager.run(await bootSectorVm(host, { name: 'web' }, { does: 'write' }));
    const ENOSPC = 28;
    const error = { event: 'write_aio', errno: ENOSPC, once: true };
    const full = { driver: 'blkdebug', 'node-name': 'full', image: 'disk0-file', 'inject-error': [error] };
    await manager.qmp('web', { execute: 'blockdev-add', arguments: full });
    const failed = nextEvent(manager, 'vm.io-error');
    await manager.qmp('web', { execute: 'blockdev-reopen', arguments: { options: [onto('full')] } });
    expect(await failed).toMatchObject({ state: 'io-error', data: { isOutOfSpace: true } });
    expect(manager.get('web').state).toBe('io-error');

    expect(await manager.resume('web')).toMatchObject({ state: 'running' });
    expect(await manager.qmp('web', { execute: 'query-status' })).toMatchObject({ status: 'running' });
  },
);

/** The options of disk0's format node, on another file. */
function onto(file: string): object {
  const cache = { direct: false, 'no-flush': false };
  return { driver: 'raw', 'node-name': 'disk0-format', file, 'read-only': false, discard: 'unmap', cache };
}
