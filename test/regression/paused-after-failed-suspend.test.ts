/**
 * Symptom: a suspend that failed, its disk being full, left the guest paused now and then.
 * Cause: QEMU says that a migration has failed before it gives the guest's run state back. In between it is `finish-migrate`, and the guest
 * was taken for one that has another reason to stand still.
 */
import { mkdtempDisposable } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { LiveVm } from '../../agent/vm/live-vm.ts';
import { unsaveGuest } from '../../agent/vm/snapshot/suspend.ts';

test('a guest whose migration has failed is let go on once QEMU has settled its run state', async () => {
  await using directory = await mkdtempDisposable(join(tmpdir(), 'fl-unsave-'));
  const runStates = ['finish-migrate', 'finish-migrate', 'postmigrate'];
  const commands: string[] = [];
  const execute = async (command: string): Promise<object> => {
    commands.push(command);
    if (command === 'query-migrate') return { status: 'failed' };
    if (command === 'query-status') return { status: runStates.length > 1 ? runStates.shift() : runStates[0] };
    if (command === 'cont' && runStates[0] === 'finish-migrate') throw new Error('Migration is not finalized yet');
    return {};
  };
  // SAFETY: what is asked of a VM whose save has failed.
  const vm = {
    name: 'web',
    signal: new AbortController().signal,
    paths: { deviceState: join(directory.path, 'device-state') },
    device: undefined,
    listen: () => ({ take: () => new Promise(() => {}), [Symbol.dispose]: () => {} }),
    execute,
  } as unknown as LiveVm;

  await unsaveGuest(vm);

  expect(commands).toContain('cont');
});
