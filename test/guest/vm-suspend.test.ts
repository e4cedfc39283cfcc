/** A real guest is suspended and resumed: it goes on where it was, with its memory, its open files and its vsock. */
import { setTimeout } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { VmManager } from '../../agent/vm/manager.ts';
import type { GuestDialled } from '../../shared/protocol/methods-streams.ts';
import { inGuest, linuxHost, linuxSpec, runLinux, whyNoLinux } from '../support/linux-vm.ts';
import { nextEvent, type TestHost, typesOf } from '../support/vm.ts';
import { beginWork, FILE_RAM } from '../support/working-guest.ts';

const missing = whyNoLinux();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

const ECHO_PORT = 7;
const DIALLED_PORT = 9_000;
const IDLE_MS = 1_000;

const sleepOf = (manager: VmManager) => typesOf(manager, 'web').filter((type) => /suspend|resumed|crashed|stopped/.test(type));

describe.skipIf(missing !== undefined)('a suspended VM', () => {
  let host: TestHost;
  beforeAll(async () => {
    host = await linuxHost();
    await runLinux(host.manager, { name: 'web', memory: FILE_RAM });
  });
  afterAll(() => host?.[Symbol.asyncDispose]());

  test('goes on where it was, again and again, over a restart of the agent too', async () => {
    const { generation } = host.manager.get('web');
    const work = await beginWork(host.manager, 'web');
    for (let cycle = 0; cycle < 5; cycle++) {
      const { vm } = await host.manager.suspend('web', { durability: 'process' });
      expect(vm).toMatchObject({ state: 'suspended', suspended: { durability: 'process' } });
      expect(vm.pid).toBeUndefined();
      expect(vm.spec.vsock).toBeDefined();
      if (cycle === 2) await host.restart();
      expect(host.manager.get('web').state).toBe('suspended');
      const resumed = await host.manager.resume('web');
      expect(resumed).toMatchObject({
        state: 'running',
        generation: generation + cycle + 1,
        ready: true,
        vsock: { transport: 'vhost-user' },
      });
      expect(resumed.suspended).toBeUndefined();
      await work.goesOn(host.manager);
    }
    expect(sleepOf(host.manager).slice(-3)).toEqual(['vm.suspending', 'vm.suspended', 'vm.resumed']);
  });

  test('has told the users of its streams so, and is woken by the next ones, once, and to be stopped', async () => {
    const { manager } = host;
    const { generation } = manager.get('web');
    const before = sleepOf(manager).length;
    const { stream } = await manager.openStream({ vm: 'web', port: ECHO_PORT, connectTimeoutMs: 30_000 });
    const failed = new Promise<unknown>((resolve) => stream.once('error', resolve));
    await manager.suspend('web', { durability: 'process' });
    expect(await failed).toMatchObject({ code: 'STREAM_RESET', details: { reset: 'SUSPENDED' } });

    const words = await Promise.all(['a', 'b', 'c'].map((word) => inGuest(manager, 'web', `echo ${word}`)));
    expect(words).toEqual(['a', 'b', 'c']);
    expect(manager.get('web')).toMatchObject({ state: 'running', generation: generation + 1 });
    expect(sleepOf(manager).slice(before)).toEqual(['vm.suspending', 'vm.suspended', 'vm.resumed']);

    // It shuts down by itself, and for that it has to be awake.
    await manager.suspend('web', { durability: 'process' });
    expect(await manager.stop('web', { graceMs: 60_000 })).toMatchObject({ endedBy: 'guest', vm: { state: 'stopped' } });
    expect(manager.get('web').spec.vsock).toBeDefined();
  });

  test('fell asleep by itself once nobody wanted anything of it, and is kept from that', async () => {
    await using drowsy = await linuxHost();
    const { manager } = drowsy;
    const asleep = nextEvent(manager, 'vm.suspended', 'web');
    await manager.run(linuxSpec({ name: 'web', memory: FILE_RAM, idle: { suspendAfterMs: IDLE_MS } }));
    await asleep;
    // Not while it boots: nobody could have wanted anything of it yet.
    expect(typesOf(manager, 'web')).toContain('vm.ready');

    const { stream } = await manager.openStream({ vm: 'web', port: ECHO_PORT, connectTimeoutMs: 30_000 });
    const woken = performance.now();
    const { until } = await manager.hold('web', { forMs: 3 * IDLE_MS });
    expect(Date.parse(until)).toBeGreaterThan(Date.now());
    const again = nextEvent(manager, 'vm.suspended', 'web');
    stream.destroy();
    await again;
    expect(performance.now() - woken).toBeGreaterThanOrEqual(3 * IDLE_MS);

    // The guest dials out: that is a use, for as long as it lasts, and so is what an operation does in it.
    const dialled = Promise.withResolvers<GuestDialled>();
    using _ = await manager.guestPorts.subscribe(
      { vm: 'web', port: DIALLED_PORT, replace: false },
      { onDialled: dialled.resolve, onEnd: dialled.reject },
    );
    // A guest that is slow to dial does not fall asleep over it.
    const { stream: awake } = await manager.openStream({ vm: 'web', port: ECHO_PORT, connectTimeoutMs: 30_000 });
    await inGuest(manager, 'web', `(sleep 60 | socat - VSOCK-CONNECT:2:${DIALLED_PORT}) </dev/null >/dev/null 2>&1 &`);
    const { stream: out } = manager.guestPorts.take('web', DIALLED_PORT, (await dialled.promise).connection);
    awake.destroy();
    const last = nextEvent(manager, 'vm.suspended', 'web');
    const slept = sleepOf(manager).length;
    expect(await Promise.race([last, setTimeout(2 * IDLE_MS, 'awake')]), 'the guest has a stream open').toBe('awake');
    expect(sleepOf(manager)).toHaveLength(slept);
    out.destroy();
    await last;
    const { running } = await manager.operate('web', { doing: 'asking', inTurn: false, wakes: true }, {}, (vm, deadline) =>
      vm.execute('query-status', {}, deadline),
    );
    expect(running, 'an operation of the guest agent wakes it').toBe(true);
  });
});
