/** What guests do to themselves, and what becomes of them: by the restart policy, while no agent is there, by the ways to ask them to end. */
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { identityOf } from '../../agent/process-identity.ts';
import { QmpClient } from '../../agent/qmp/client.ts';
import type { VmSpecInput } from '../../shared/protocol/vm-spec.ts';
import { bootSectorVm } from '../support/boot-sector.ts';
import { linuxHost, linuxSpec, runLinux, whyNoLinux } from '../support/linux-vm.ts';
import { nextEvent, testHost, typesOf, whyNoQemu } from '../support/vm.ts';

const missing = whyNoQemu();
if (missing !== undefined) console.warn(`skipped: ${missing}`);
const missingLinux = whyNoLinux();
if (missingLinux !== undefined) console.warn(`skipped: ${missingLinux}`);

const AGAIN: VmSpecInput['restart'] = { policy: 'always', delayMs: 100, maxDelayMs: 100 };
const GRACE_MS = 120_000;

describe.skipIf(missing !== undefined)('a guest', () => {
  test('that shuts itself down while no agent is there is stopped, not crashed', async () => {
    await using host = await testHost();
    const { manager } = host;
    await manager.run(await bootSectorVm(host, { name: 'web' }, { does: 'power-off' }));
    // Its firmware takes longer than this; it goes on only when the agent has gone.
    await manager.pause('web');
    const { pid = 0 } = manager.get('web');
    await manager.close();
    {
      await using monitor = await QmpClient.connect({ path: join(host.options.runDir, 'web', 'monitor.sock') });
      await monitor.execute('cont');
      await expect.poll(() => identityOf(pid), { timeout: 60_000 }).toBeUndefined();
    }
    const next = await host.restart();
    expect(next.get('web')).toMatchObject({ state: 'stopped', exit: { reason: 'guest-shutdown' } });
    expect(next.events.query({}).events.at(-1)).toMatchObject({ type: 'vm.stopped', data: { reason: 'guest-shutdown' } });
    expect(existsSync(join(host.options.runDir, 'web'))).toBe(false);
  });

  test('that ends over and over is started again each time, is told to loop, and stays stopped when it is stopped', async () => {
    await using host = await testHost();
    const { manager } = host;
    const looping = (async () => {
      for await (const event of manager.events.follow({ signal: AbortSignal.timeout(120_000) })) {
        if (event.type === 'vm.restart-scheduled' && event.data.isCrashLoop) return event;
      }
      throw new Error('no loop was told');
    })();
    await manager.run(await bootSectorVm(host, { name: 'web', restart: AGAIN }, { does: 'power-off' }));
    expect(await looping).toMatchObject({ data: { attempt: 5 } });
    const { vm } = await manager.stop('web', { graceMs: 0 });
    expect(vm).toMatchObject({ state: 'stopped' });
    expect(vm.restart).toBeUndefined();
    const { lastSeq } = manager.events;
    await host.restart();
    expect(host.manager.get('web')).toMatchObject({ state: 'stopped' });
    expect(host.manager.events.query({ since: lastSeq }).events).toEqual([]);
  });

  test('is started again by the next agent, when it crashed with none there', async () => {
    await using host = await testHost();
    await host.manager.run(await bootSectorVm(host, { name: 'web', restart: { ...AGAIN, policy: 'on-failure' } }, {}));
    const { pid = 0 } = host.manager.get('web');
    await host.manager.close();
    process.kill(pid, 'SIGKILL');
    await expect.poll(() => identityOf(pid)).toBeUndefined();
    const next = await host.restart();
    await expect.poll(() => next.get('web').state, { timeout: 60_000 }).toBe('running');
    expect(next.get('web')).toMatchObject({ generation: 2, restart: { attempts: 1 } });
    expect(typesOf(next)).toEqual(['vm.created', 'vm.started', 'vm.crashed', 'vm.restart-scheduled', 'vm.started']);
    expect(await next.stop('web', { graceMs: 0 })).toMatchObject({ vm: { state: 'stopped' } });
  });

  test('is due at the same time for the next agent, and is not any more once it was started by hand', async () => {
    await using host = await testHost();
    const later = { policy: 'always', delayMs: 3_600_000, maxDelayMs: 3_600_000 } as const;
    await host.manager.run(await bootSectorVm(host, { name: 'web', restart: later }, {}));
    const scheduled = nextEvent(host.manager, 'vm.restart-scheduled');
    process.kill(host.manager.get('web').pid ?? 0, 'SIGKILL');
    await scheduled;
    const { restart } = host.manager.get('web');
    expect(restart).toMatchObject({ attempts: 1, dueAt: expect.any(String) });
    const next = await host.restart();
    expect(next.get('web').restart).toEqual(restart);
    expect((await next.start('web')).restart).toBeUndefined();
  });

  test('whose start by the policy fails is tried again, and not any more once it is deleted', async () => {
    await using host = await testHost();
    const { manager } = host;
    const guest = await bootSectorVm(host, { name: 'web', restart: AGAIN }, {});
    await manager.run(guest);
    // The next start finds no disk.
    const scheduled = nextEvent(manager, 'vm.restart-scheduled');
    const attempts = (async () => {
      for await (const event of manager.events.follow({ signal: AbortSignal.timeout(60_000) })) {
        if (event.type === 'vm.restart-scheduled' && event.data.attempt === 3) return event;
      }
      throw new Error('it was not tried a third time');
    })();
    await rm(guest.disks[0]?.path ?? '');
    process.kill(manager.get('web').pid ?? 0, 'SIGKILL');
    expect(await scheduled).toMatchObject({ state: 'crashed', data: { attempt: 1 } });
    expect(await attempts).toMatchObject({ state: 'crashed' });
    await manager.delete('web');
    expect(manager.list()).toEqual([]);
  });
});

describe.skipIf(missingLinux !== undefined)('a Linux guest', () => {
  test('whose power button is pressed before its driver is up hears it later', async () => {
    await using host = await linuxHost();
    await host.manager.run(linuxSpec({ name: 'web' }));
    expect(await host.manager.stop('web', { graceMs: GRACE_MS })).toMatchObject({
      endedBy: 'guest',
      vm: { state: 'stopped', exit: { reason: 'guest-shutdown' } },
    });
  });

  test('with an agent of its own is asked by that', async () => {
    await using host = await linuxHost();
    await runLinux(host.manager, { name: 'web', guestAgent: { via: 'virtio-serial' } });
    expect(await host.manager.stop('web', { graceMs: GRACE_MS })).toMatchObject({
      endedBy: 'guest',
      vm: { exit: { reason: 'guest-shutdown' } },
    });
  });
});
