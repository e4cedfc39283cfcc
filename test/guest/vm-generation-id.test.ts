/** A guest is told that it is not what it was (vmgenid), so that no two of them draw the same random numbers. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { expect, test } from 'vitest';
import { parseParams } from '../../shared/protocol/validate.ts';
import { testQemu } from '../support/qemu.ts';
import { snapshotsOf } from '../support/snapshots.ts';
import { spec, type TestHost, testHost } from '../support/vm.ts';
import { GUEST_RUNS, vmforkGuest } from '../support/vmfork-guest.ts';

const guest = vmforkGuest();
/** The emulator of 7.2 runs this kernel into faults of its own. */
const qemu = testQemu('10');
const missing = qemu.missing ?? (guest === undefined ? 'a kernel with vmgenid is not in the cache: npm run setup' : undefined);
if (missing !== undefined) console.warn(`skipped: ${missing}`);

/** Of Linux, when the id has changed and its random number generator has taken that up (drivers/char/random.c). */
const FORKED = 'crng reseeded due to virtual machine fork';
const PATIENCE = { timeout: 120_000, interval: 100 };

test.skipIf(missing !== undefined)(
  'a clone has a generation id of its own, and its kernel draws new random numbers for it',
  async () => {
    await using host = await testHost({ qemuBinary: qemu.binary });
    const { manager } = host;
    const { kernel = '', initrd = '' } = guest ?? {};
    const boot = { kernel, initrd, args: 'console=ttyS0 reboot=t panic=-1 loglevel=6' };
    const memory = { bytes: '256MiB', backing: 'file' } as const;
    await manager.run(spec({ name: 'web', memory, boot, devices: { balloon: false } }));
    await expect.poll(() => consoleOf(host, 'web'), PATIENCE).toContain(GUEST_RUNS);
    const snapshots = snapshotsOf(host);
    await snapshots.create(parseParams('snapshot.create', { vm: 'web', name: 'gold', mode: 'instant', clonable: true }), {});
    await snapshots.clone(parseParams('vm.clone', { snapshot: 'gold', names: ['one', 'two'] }), {});
    for (const clone of ['one', 'two']) await expect.poll(() => consoleOf(host, clone), PATIENCE).toContain(FORKED);
    expect(await consoleOf(host, 'web'), 'the source is what it was').not.toContain(FORKED);
    const ids = await Promise.all(['web', 'one', 'two'].map((vm) => idOf(host, vm)));
    expect(new Set(ids).size, ids.join(' ')).toBe(3);
  },
);

function consoleOf({ options }: TestHost, vm: string): Promise<string> {
  return readFile(join(options.stateDir, 'vms', vm, 'logs', 'console.log'), 'utf8');
}

async function idOf({ manager }: TestHost, vm: string): Promise<string> {
  const answer = await manager.qmp(vm, { execute: 'query-vm-generation-id' });
  return v.parse(v.object({ guid: v.pipe(v.string(), v.uuid()) }), answer).guid;
}
