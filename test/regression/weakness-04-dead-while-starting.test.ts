/**
 * Weakness 4: nobody heard that QEMU had ended. A start with bad arguments was polled for 10 s, a restore for 30 s, and what was told in
 * the end was a timeout.
 */
import { expect, test } from 'vitest';
import { spec, testHost, whyNoQemu } from '../support/vm.ts';

const missing = whyNoQemu();
if (missing !== undefined) console.warn(`skipped: ${missing}`);
/** Longer than the test itself may take: only the end of the process can end the call. */
const FOREVER_MS = 3_600_000;

test.skipIf(missing !== undefined)('a QEMU that ends at its start ends the call, with its own words', async () => {
  await using host = await testHost();
  const bad = spec({ name: 'web', cpus: { model: 'no-such-model' } });
  await expect(host.manager.run(bad, { timeoutMs: FOREVER_MS })).rejects.toMatchObject({
    code: 'PROCESS_FAILED',
    message: expect.stringContaining("unable to find CPU model 'no-such-model'"),
    details: { exitCode: 1 },
  });
});

test.skipIf(missing !== undefined)('a QEMU that is killed ends the calls that wait for it', async () => {
  await using host = await testHost();
  const { manager } = host;
  const { pid = 0 } = await manager.run(spec({ name: 'web' }));
  process.kill(pid, 'SIGSTOP');
  const pausing = manager.pause('web', { timeoutMs: FOREVER_MS });
  pausing.catch(() => {});
  process.kill(pid, 'SIGKILL');
  await expect(pausing).rejects.toMatchObject({ code: expect.stringMatching(/^(INTERRUPTED|WRONG_STATE)$/) });
});
