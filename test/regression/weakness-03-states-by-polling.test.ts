/** Weakness 3: states came from questions every 50 ms, and nobody listened to QEMU's events; out-of-band commands were never enabled. */
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { QmpClient } from '../../agent/qmp/client.ts';
import { bootSectorVm } from '../support/boot-sector.ts';
import { nextEvent, spec, testHost, typesOf, whyNoQemu } from '../support/vm.ts';

const missing = whyNoQemu();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

test.skipIf(missing !== undefined)(
  'what happens to a VM is told by its events, and no command is given to find out',
  async () => {
    const commands: string[] = [];
    const observer = { onCommand: ({ command }: { command: string }) => void commands.push(command), onEvent: () => {} };
    await using host = await testHost({ observer });
    const { manager } = host;
    const reset = nextEvent(manager, 'vm.reset');
    await manager.run(await bootSectorVm(host, { name: 'web' }, { does: 'reset' }));
    await reset;
    commands.length = 0;

    await using person = await QmpClient.connect({ path: join(host.options.runDir, 'web', 'monitor.sock') });
    for (const [command, event] of [
      ['stop', 'vm.paused'],
      ['cont', 'vm.resumed'],
      ['quit', 'vm.stopped'],
    ] as const) {
      const told = nextEvent(manager, event);
      await person.execute(command);
      await told;
    }
    expect(manager.get('web')).toMatchObject({ state: 'stopped', exit: { reason: 'host-qmp-quit' } });
    expect(typesOf(manager).slice(-4)).toEqual(['vm.paused', 'vm.resumed', 'vm.stopping', 'vm.stopped']);
    expect(commands).toEqual([]);
  },
);

test.skipIf(missing !== undefined)('a command goes out-of-band past those that QEMU has still to answer', async () => {
  await using host = await testHost();
  await host.manager.run(spec({ name: 'web' }));
  await using client = await QmpClient.connect({ path: join(host.options.runDir, 'web', 'monitor.sock') });
  expect(client.oob).toBe(true);
  const answered: string[] = [];
  const slow = Array.from({ length: 8 }, () => client.execute('query-qmp-schema').then(() => answered.push('in turn')));
  await client.execute('query-yank', {}, { oob: true }).then(() => answered.push('out-of-band'));
  await Promise.all(slow);
  expect(answered.indexOf('out-of-band')).toBeLessThan(8);
});
