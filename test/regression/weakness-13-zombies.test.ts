/**
 * Weakness 13: children were not reaped, and a zombie still takes signals, so every stop waited out its time and then said that QEMU had
 * not ended.
 */
import { existsSync } from 'node:fs';
import { expect, test } from 'vitest';
import { LADDER_TIMES } from '../../agent/vm/stop-ladder.ts';
import { nextEvent, spec, testHost, whyNoQemu } from '../support/vm.ts';

const missing = whyNoQemu();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

test.skipIf(missing !== undefined)('when a stop is answered the process is gone, not a zombie, whoever started it', async () => {
  // With the time that users have: what a zombie would cost is all of it.
  await using host = await testHost({ ladderTimes: LADDER_TIMES });
  const { pid: own = 0 } = await host.manager.run(spec({ name: 'own' }));
  const { pid: adopted = 0 } = await host.manager.run(spec({ name: 'adopted' }));
  expect(await host.manager.stop('own', { graceMs: 0 })).toMatchObject({ endedBy: 'quit' });
  expect(existsSync(`/proc/${own}`)).toBe(false);

  const manager = await host.restart();
  expect(await manager.stop('adopted', { graceMs: 0 })).toMatchObject({ endedBy: 'quit' });
  expect(existsSync(`/proc/${adopted}`)).toBe(false);
});

test.skipIf(missing !== undefined)('a QEMU that dies by itself is reaped too', async () => {
  await using host = await testHost();
  const { pid = 0 } = await host.manager.run(spec({ name: 'web' }));
  const crashed = nextEvent(host.manager, 'vm.crashed');
  process.kill(pid, 'SIGKILL');
  await crashed;
  expect(existsSync(`/proc/${pid}`)).toBe(false);
});
