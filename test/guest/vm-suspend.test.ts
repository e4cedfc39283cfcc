/** A real guest is suspended and resumed: it goes on where it was, with its memory, its open files and its vsock. */
import { describe, expect, test } from 'vitest';
import type { VmManager } from '../../agent/vm/manager.ts';
import { inGuest, linuxHost, runLinux, whyNoLinux } from '../support/linux-vm.ts';
import { typesOf } from '../support/vm.ts';
import { beginWork, FILE_RAM, workOf } from '../support/working-guest.ts';

const missing = whyNoLinux();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

const statesOf = (manager: VmManager) => typesOf(manager).filter((type) => /suspend|resumed|crashed|stopped/.test(type));

describe.skipIf(missing !== undefined)('a suspended VM', () => {
  test('goes on where it was, again and again', async () => {
    await using host = await linuxHost();
    const { manager } = host;
    await runLinux(manager, { name: 'web', memory: FILE_RAM });
    const work = await beginWork(manager, 'web');
    for (let cycle = 0; cycle < 5; cycle++) {
      const { vm } = await manager.suspend('web', { durability: 'process' });
      expect(vm).toMatchObject({ state: 'suspended', suspended: { durability: 'process' } });
      expect(vm.pid).toBeUndefined();
      expect(vm.spec.vsock).toBeDefined();
      const resumed = await manager.resume('web');
      expect(resumed).toMatchObject({ state: 'running', generation: cycle + 2, ready: true, vsock: { transport: 'vhost-user' } });
      await work.goesOn();
    }
    expect(statesOf(manager).slice(-3)).toEqual(['vm.suspending', 'vm.suspended', 'vm.resumed']);
  });
});
