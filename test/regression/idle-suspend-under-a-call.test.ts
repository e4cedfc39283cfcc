/**
 * The idle policy looked at whether anybody wanted anything of the VM, and then asked its QEMU whether it can be suspended. Who came
 * meanwhile found the VM awake, went ahead, and had its guest taken away: an `exec` failed, a stream was reset.
 */
import { beforeEach, expect, test, vi } from 'vitest';
import type { Failpoint } from '../../agent/failpoint.ts';
import { spec, testHost, typesOf, whyNoQemu } from '../support/vm.ts';

const missing = whyNoQemu();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

const at: { step: (name: Failpoint) => Promise<void> } = vi.hoisted(() => ({ step: async () => {} }));
vi.mock('../../agent/failpoint.ts', () => ({ failpoint: (name: Failpoint) => at.step(name) }));
beforeEach(() => {
  at.step = async () => {};
});

test.skipIf(missing !== undefined)('a VM that is wanted again before its suspend has begun is left awake', async () => {
  await using host = await testHost();
  const { manager } = host;
  const called = Promise.withResolvers<unknown>();
  const mayEnd = Promise.withResolvers<void>();
  const asked = Promise.withResolvers<void>();
  at.step = async (name) => {
    if (name !== 'suspend.begun') return;
    at.step = async () => {};
    const began = Promise.withResolvers<void>();
    const call = manager.operate('web', { doing: 'asking', inTurn: false, wakes: true }, {}, async (vm, deadline) => {
      began.resolve();
      await mayEnd.promise;
      return vm.execute('query-status', {}, deadline);
    });
    call.then(called.resolve, called.reject);
    await began.promise;
    asked.resolve();
  };
  await manager.run(spec({ name: 'web', memory: { bytes: '64MiB', backing: 'file' }, idle: { suspendAfterMs: 1_000 } }));
  await asked.promise;
  // In turn: the suspend has come to its end, whatever that was.
  const { state } = await manager.pause('web').then(
    () => manager.resume('web'),
    () => manager.get('web'),
  );
  mayEnd.resolve();
  expect(await called.promise).toMatchObject({ running: true });
  expect(state).toBe('running');
  expect(typesOf(manager, 'web')).not.toContain('vm.suspending');
});
