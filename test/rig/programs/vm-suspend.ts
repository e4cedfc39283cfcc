/**
 * Suspends under KVM, with the vsock of the kernel: the device is part of what is saved, and stays. Run inside a VM that has KVM,
 * /dev/vhost-vsock and a disk to lose nothing on (reset-host.ts): what it leaves behind is for vm-after-reset.ts, once the power has gone.
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { readBootId } from '../../../agent/vm/host/host-info.ts';
import { artefacts } from '../../../cli/image/cache.ts';
import type { VmEvent } from '../../../shared/protocol/vm-events.ts';
import { LOOK_AT_WORK, seenOf, workCommand } from '../../support/guest-work.ts';
import { inGuest } from '../../support/linux-vm.ts';
import { spec } from '../../support/vm.ts';
import { runCases } from '../../support/vm-cases.ts';
import { GUEST_BOOT_ID, hostOf, mountDisk, SEEN, type Seen } from './reset-host.ts';

const READY_PORT = 1023;
const ECHO_PORT = 7;
const CYCLES = 3;
/** All that the guest has touched goes to an emulated disk. */
const SYNC_MS = 250_000;

const { vmlinux, initrd } = artefacts();
mountDisk();
const host = await hostOf('disk');
const inMemory = await hostOf('memory');
const { manager } = host;
const told: VmEvent[] = [];
manager.events.listen((event) => void told.push(event));

const idle = (name: string) => spec({ name, accelerator: 'kvm', memory: { bytes: '64MiB', backing: 'file' } });

await runCases({
  'a guest under KVM says that it is ready': async () => {
    const ready = Promise.withResolvers<void>();
    using _ = manager.events.listen(({ type }) => type === 'vm.ready' && ready.resolve());
    const boot = { kernel: vmlinux, initrd, args: 'console=ttyS0 reboot=t panic=-1 quiet' };
    const memory = { bytes: '192MiB', backing: 'file' } as const;
    await manager.run(spec({ name: 'web', accelerator: 'kvm', memory, boot, vsock: { readyPort: READY_PORT } }));
    await ready.promise;
    // All is slow here, sums too.
    await inGuest(manager, 'web', `echo kept >/tmp/kept; ${workCommand({ blobMebibytes: 1 })}`);
  },

  'it goes on with its vsock, by another CID each time': async () => {
    let { cid } = manager.get('web').vsock ?? { cid: 0 };
    const notes: string[] = [];
    for (let cycle = 0; cycle < CYCLES; cycle++) {
      const { stream } = await manager.openStream({ vm: 'web', port: ECHO_PORT, connectTimeoutMs: 30_000 });
      const failed = new Promise<Error>((resolve) => stream.once('error', resolve));
      const startedAt = performance.now();
      await manager.suspend('web', { durability: 'process' });
      const asleepAt = performance.now();
      assert.equal(Reflect.get(Reflect.get(await failed, 'details'), 'reset'), 'SUSPENDED');
      const info = await manager.resume('web');
      const awakeAt = performance.now();
      assert.equal(await inGuest(manager, 'web', 'cat /tmp/kept'), 'kept');
      notes.push(
        `${Math.round(asleepAt - startedAt)}, ${Math.round(awakeAt - asleepAt)}, ${Math.round(performance.now() - awakeAt)}`,
      );
      assert.notEqual(info.vsock?.cid, cid);
      cid = info.vsock?.cid ?? 0;
    }
    assert.deepEqual(
      told.filter(({ type }) => type === 'vm.device-removed'),
      [],
    );
    return `ms to suspend, to resume, to the first answer: ${notes.join('; ')}`;
  },

  'whoever connects to it wakes it': async () => {
    await manager.suspend('web', { durability: 'process' });
    assert.equal(await inGuest(manager, 'web', 'cat /tmp/kept'), 'kept');
    assert.equal(manager.get('web').state, 'running');
  },

  'it sleeps on over a restart of the agent': async () => {
    await manager.suspend('web', { durability: 'process' });
    const next = await host.restart();
    assert.equal(next.get('web').state, 'suspended');
    assert.equal((await next.resume('web')).state, 'running');
    assert.equal(await inGuest(next, 'web', 'cat /tmp/kept'), 'kept');
  },

  'it is put to sleep for the host, with its RAM on a disk': async () => {
    const next = host.manager;
    const { count } = seenOf(await inGuest(next, 'web', LOOK_AT_WORK));
    const guestBootId = await inGuest(next, 'web', GUEST_BOOT_ID);
    const startedAt = performance.now();
    const { vm } = await next.suspend('web', { durability: 'host', timeoutMs: SYNC_MS });
    const suspendMs = performance.now() - startedAt;
    assert.equal(vm.suspended?.durability, 'host');
    const seen: Seen = { hostBootId: readBootId(), guestBootId, count };
    // Told to the program of after by the same disk; nothing else here is synced by hand.
    writeFileSync(SEEN, JSON.stringify(seen), { flush: true });
    return `suspended for the host in ${Math.round(suspendMs)} ms`;
  },

  'with RAM in memory that is refused, and a guest sleeps for as long as the host is up': async () => {
    await inMemory.manager.run(idle('gone'));
    const forHost = inMemory.manager.suspend('gone', { durability: 'host' });
    await assert.rejects(forHost, { code: 'UNSUPPORTED', message: /is memory/ });
    const { vm } = await inMemory.manager.suspend('gone', { durability: 'process' });
    assert.equal(vm.suspended?.durability, 'process');
  },

  'another sleeps so with its RAM on a disk, and one runs': async () => {
    await host.manager.run(idle('unsynced'));
    await host.manager.suspend('unsynced', { durability: 'process' });
    // Its record may not say so yet when the power goes.
    await host.manager.run(idle('awake'));
  },
});
// Whoever closes nothing has been killed.
process.exit();
