/** Whom a suspend refuses before it touches anything. (That it holds for a real guest: guest/vm-suspend-faults.test.ts.) */
import { expect, test } from 'vitest';
import type { LiveVm } from '../../agent/vm/live-vm.ts';
import { requireSuspendable } from '../../agent/vm/snapshot/suspend.ts';
import { spec } from '../support/vm.ts';

const OWN_RAM = ['-object', '{"qom-type":"memory-backend-file","id":"ram0","share":true}'];
const SHARED_RAM = ['-object', '{"qom-type":"memory-backend-file","id":"ram0","share":false}'];
const WEB = spec({ name: 'web', memory: { bytes: '64MiB', backing: 'file' } });
const UNTESTED = '9.1.0';

interface Facts {
  readonly argv: readonly string[];
  readonly qemuVersion: string;
}

function check(facts: Partial<Facts>, { isUntestedAllowed = false, vmSpec = WEB } = {}): Promise<void> {
  const process: Facts = { argv: OWN_RAM, qemuVersion: '7.2.22', ...facts };
  // SAFETY: what is asked of a VM that is looked at.
  const vm = { name: 'web', spec: vmSpec, process } as unknown as LiveVm;
  return requireSuspendable(vm, {
    durability: 'process',
    isUntestedAllowed,
    limits: { signal: new AbortController().signal, remainingMs: 1000 },
  });
}

test('a QEMU on which it was not tested is refused, by the name of the setting that allows it', async () => {
  await expect(check({ qemuVersion: UNTESTED })).rejects.toMatchObject({
    code: 'UNSUPPORTED',
    message: expect.stringContaining('untestedSuspend'),
  });
  // What comes after that check is asked of the VM, which has no answers here.
  await expect(check({ qemuVersion: UNTESTED }, { isUntestedAllowed: true })).rejects.not.toMatchObject({ code: 'UNSUPPORTED' });
});

test('so is a guest whose RAM is in no file of its own', async () => {
  const inMemory = spec({ name: 'web', memory: { bytes: '64MiB' } });
  await expect(check({}, { vmSpec: inMemory })).rejects.toMatchObject({ message: expect.stringContaining('memory.backing') });
  await expect(check({ argv: SHARED_RAM })).rejects.toMatchObject({ message: expect.stringContaining('that of a snapshot') });
});
