/** Nobody but the agent of the moment knew how long a VM was to be kept awake: with the next one, an update's for instance, the VM slept. */
import { expect, test } from 'vitest';
import { spec, testHost, whyNoQemu } from '../support/vm.ts';

const missing = whyNoQemu();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

const HOUR_MS = 3_600_000;

test.skipIf(missing !== undefined)('a VM is held awake by the next agent too, for as long as was said', async () => {
  await using host = await testHost();
  await host.manager.run(spec({ name: 'web', memory: { bytes: '64MiB', backing: 'file' }, idle: { suspendAfterMs: HOUR_MS } }));
  const { until } = await host.manager.hold('web', { forMs: 5 * HOUR_MS });
  await host.restart();
  // A hold that is shorter than one before it changes nothing, and tells until when that one lasts.
  const { until: still } = await host.manager.hold('web', { forMs: 1 });
  expect(Math.abs(Date.parse(still) - Date.parse(until))).toBeLessThan(HOUR_MS);
});
