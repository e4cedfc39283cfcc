/**
 * Weakness 6: RAM left a VM at QEMU's default of 128 MiB a second and had 30 s for it, so that none with more than 3.75 GiB in use could be
 * saved. (Snapshots have their own tests.)
 */
import { expect, test } from 'vitest';
import { Migrator } from '../../agent/vm/migration/migrator.ts';
import { parseParams } from '../../shared/protocol/validate.ts';
import { startTarget } from '../support/migration-target.ts';
import { spec, testHost, whyNoQemu } from '../support/vm.ts';

const missing = whyNoQemu();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

test.skipIf(missing !== undefined)('RAM leaves a VM as fast as it goes, and only a lack of progress ends that', async () => {
  await using host = await testHost();
  await host.manager.run(spec({ name: 'web' }));
  await using target = await startTarget(host.manager, 'web');
  const params = parseParams('vm.migrate', { vm: 'web', uri: target.uri });
  // The caller gave no time, so there is none.
  expect(await new Migrator(host.manager).migrate(params, {})).toMatchObject({ status: 'completed' });
  expect(await host.manager.qmp('web', { execute: 'query-migrate-parameters' })).toMatchObject({ 'max-bandwidth': 0 });
  expect(params).toMatchObject({ stallTimeoutMs: expect.any(Number) });
});
