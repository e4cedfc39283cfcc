/**
 * A caller who gave up, or whose time was over, between the commit point of a resume and the first step of the guest took the guest with
 * him: its state was used up, and its QEMU was ended because nobody wanted it any more. Ctrl-C in `fairlead connect` was enough.
 */
import { beforeEach, expect, test, vi } from 'vitest';
import type { Failpoint } from '../../agent/failpoint.ts';
import { spec, testHost, typesOf, whyNoQemu } from '../support/vm.ts';

const missing = whyNoQemu();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

const at: { step: (name: Failpoint) => void } = vi.hoisted(() => ({ step: () => {} }));
vi.mock('../../agent/failpoint.ts', () => ({ failpoint: async (name: Failpoint) => at.step(name) }));
beforeEach(() => {
  at.step = () => {};
});

test.skipIf(missing !== undefined)('a resume that is given up leaves the guest asleep, or has it go on', async () => {
  await using host = await testHost();
  const { manager } = host;
  await manager.run(spec({ name: 'web', memory: { bytes: '64MiB', backing: 'file' } }));
  const resumeGivenUpAt = async (step: Failpoint): Promise<string> => {
    await manager.suspend('web', { durability: 'process' });
    const caller = new AbortController();
    at.step = (name) => name === step && caller.abort();
    return manager.resume('web', { signal: caller.signal }).then(
      () => 'resumed',
      ({ code }) => String(code),
    );
  };
  for (const step of ['resume.begun', 'resume.spawned', 'resume.loaded'] as const) {
    expect(await resumeGivenUpAt(step), step).toBe('CANCELLED');
    expect(manager.get('web').state, step).toBe('suspended');
    at.step = () => {};
    expect(await manager.resume('web')).toMatchObject({ state: 'running' });
  }
  expect(await resumeGivenUpAt('resume.committed')).toBe('resumed');
  expect(await manager.qmp('web', { execute: 'query-status' })).toMatchObject({ running: true });
  expect(typesOf(manager, 'web')).not.toContain('vm.crashed');
});
