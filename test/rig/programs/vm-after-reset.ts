/** What a host that lost its power still has of the VMs that vm-suspend.ts left there: it was reset in between, and its agent starts anew. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { readBootId } from '../../../agent/vm/host/host-info.ts';
import type { VmManager } from '../../../agent/vm/manager.ts';
import { LOOK_AT_WORK, seenOf, WHOLE_BLOB } from '../../support/guest-work.ts';
import { inGuest } from '../../support/linux-vm.ts';
import { runCases } from '../../support/vm-cases.ts';
import { GUEST_BOOT_ID, hostOf, mountDisk, SEEN, type Seen, unmountDisk } from './reset-host.ts';

/** The first QEMU after a start of the host is read from its disk. */
const COLD_MS = 250_000;

mountDisk();
// SAFETY: what vm-suspend.ts wrote there; a case that misses a part of it fails.
const seen = JSON.parse(readFileSync(SEEN, 'utf8')) as Seen;
const onDisk = await hostOf('disk');
const inMemory = await hostOf('memory');

await runCases({
  'the host was started anew': async () => {
    assert.notEqual(readBootId(), seen.hostBootId);
  },

  'a guest that was put to sleep for the host goes on exactly where it was': async () => {
    const { manager } = onDisk;
    assert.equal(manager.get('web').state, 'suspended');
    const startedAt = performance.now();
    assert.equal((await manager.resume('web', { timeoutMs: COLD_MS })).state, 'running');
    const resumedAt = performance.now();
    const { count, held, blob } = seenOf(await inGuest(manager, 'web', LOOK_AT_WORK));
    assert.equal(await inGuest(manager, 'web', GUEST_BOOT_ID), seen.guestBootId);
    assert.ok(count > seen.count, `${count} after ${seen.count}`);
    assert.equal(held, count);
    assert.equal(blob, WHOLE_BLOB);
    return `resumed after the reset in ${Math.round(resumedAt - startedAt)} ms, from count ${seen.count} to ${count}`;
  },

  'one that was not is told as lost, and cannot be gone on from': async () => {
    await isLost(onDisk.manager, 'unsynced');
    await isLost(inMemory.manager, 'gone');
  },

  'so is one that was awake': async () => {
    await isLost(onDisk.manager, 'awake');
  },
});
for (const host of [onDisk, inMemory]) await host[Symbol.asyncDispose]();
unmountDisk();

async function isLost(manager: VmManager, vm: string): Promise<void> {
  const { state, exit, suspended } = manager.get(vm);
  assert.deepEqual(
    { state, reason: exit?.reason, suspended },
    { state: 'crashed', reason: 'host-restart', suspended: undefined },
  );
  await assert.rejects(manager.resume(vm), { code: 'WRONG_STATE' });
}
