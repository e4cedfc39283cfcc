/** Clones of one snapshot: what each has of its own, what they share, and that nothing that one does is seen by another. */
import { truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Guests } from '../../agent/vm/guest-agent/guests.ts';
import { nameGuest } from '../../agent/vm/guest-agent/name-guest.ts';
import { seedGuest } from '../../agent/vm/guest-agent/seed-guest.ts';
import { MemoryResizer } from '../../agent/vm/memory/resize-memory.ts';
import { hashContent } from '../../agent/vm/snapshot/content.ts';
import { parseParams } from '../../shared/protocol/validate.ts';
import type { VmSpecInput } from '../../shared/protocol/vm-spec.ts';
import { inGuest, linuxHost, runLinux, whyNoLinux } from '../support/linux-vm.ts';
import { sharingClones } from '../support/sharing-clones.ts';
import { snapshotsOf } from '../support/snapshots.ts';
import { silent, type TestHost } from '../support/vm.ts';
import { FILE_RAM } from '../support/working-guest.ts';

const missing = whyNoLinux();
if (missing !== undefined) console.warn(`skipped: ${missing}`);
/** Sixteen of 1 GiB are in the soak. */
const CLONES = 6;
const never = new AbortController().signal;

describe.skipIf(missing !== undefined)('clones of a guest with a disk, a network and a vsock', () => {
  let host: TestHost;
  let snapshots: ReturnType<typeof snapshotsOf>;
  beforeEach(async () => {
    host = await linuxHost();
    snapshots = snapshotsOf(host);
  });
  afterEach(() => host[Symbol.asyncDispose]());

  const create = (name: string) =>
    snapshots.create(parseParams('snapshot.create', { vm: 'web', name, mode: 'instant', clonable: true }), {});
  const clone = (snapshot: string, count: number) => snapshots.clone(parseParams('vm.clone', { snapshot, count }), {});
  const ramHash = async (snapshot: string) =>
    (await hashContent(join(host.options.stateDir, 'snapshots', snapshot, 'ram'), never)).sha256;

  async function runWeb(more: Partial<VmSpecInput> = {}): Promise<void> {
    const disk = join(host.options.stateDir, 'disk.img');
    await writeFile(disk, 'base');
    await truncate(disk, 32 * 1024 ** 2);
    const networks = [{ type: 'user' as const }];
    await runLinux(host.manager, { name: 'web', memory: FILE_RAM, disks: [{ path: disk }], networks, ...more });
  }

  test('each goes on from the same moment with its own MAC, uuid, vsock and disk', async () => {
    const { manager } = host;
    await runWeb();
    await inGuest(manager, 'web', 'echo same >/tmp/mark');
    const made = await create('gold');
    expect(made).toMatchObject({ clonable: true });
    expect(manager.get('web').spec.networks, 'the source has its network again').toHaveLength(1);
    expect(manager.get('web').vsock).toBeDefined();

    const { vms, memory, why } = await clone('gold', 2);
    expect(vms.map(({ name, state }) => `${name} ${state}`)).toEqual(['web-1 running', 'web-2 running']);
    expect({ memory, why }).toMatchObject({ memory: 'copied', why: expect.stringContaining('balloon') });
    const all = ['web', 'web-1', 'web-2'];
    const macs = await Promise.all(all.map((vm) => inGuest(manager, vm, 'cat /sys/class/net/*/address | grep -v 00:00:00')));
    expect(new Set(macs).size, macs.join(' | ')).toBe(3);
    expect(new Set(all.map((vm) => manager.get(vm).uuid)).size).toBe(3);
    expect(await Promise.all(all.map((vm) => inGuest(manager, vm, 'cat /tmp/mark')))).toEqual(['same', 'same', 'same']);

    await inGuest(manager, 'web-1', 'printf mine | dd of=/dev/vda conv=notrunc 2>/dev/null; sync');
    const heads = await Promise.all(all.map((vm) => inGuest(manager, vm, 'head -c 4 /dev/vda')));
    expect(heads).toEqual(['base', 'mine', 'base']);

    await expect(snapshots.remove({ snapshot: 'gold' })).rejects.toMatchObject({
      code: 'CONFLICT',
      details: { usedBy: ['web-1', 'web-2'] },
    });
    await manager.stop('web-1', { graceMs: 0 });
    await expect(snapshots.remove({ snapshot: 'gold' }), 'its disk still stands on it').rejects.toMatchObject({
      code: 'CONFLICT',
    });
    for (const vm of ['web-1', 'web-2']) await manager.delete(vm, { force: true });
    expect(await snapshots.remove({ snapshot: 'gold' })).toEqual({ removed: true });
  });

  test('each is given random numbers, its name and the time by its guest agent, or the answer says why not', async () => {
    const { manager } = host;
    using guests = new Guests(manager, silent);
    const told = snapshotsOf(host, {
      seedGuest: (...args) => seedGuest(guests, ...args),
      setClock: (vm, options) =>
        guests.setTime(parseParams('guest.setTime', { vm, answerTimeoutMs: options.timeoutMs }), options),
      nameGuest: (...args) => nameGuest(guests, ...args),
    });
    await runWeb({ guestAgent: { via: 'virtio-serial' } });
    const [before] = (await inGuest(manager, 'web', 'hostname; date -s @1')).split('\n');
    expect(before).toBe('fairlead-guest');
    await create('plain');
    const plain = await told.clone(parseParams('vm.clone', { snapshot: 'plain', names: ['one'] }), {});
    expect(plain).toMatchObject({ randomSeeds: {}, clocks: {}, hostNames: {} });
    const [name, time] = (await inGuest(manager, 'one', 'hostname; date +%s')).split('\n');
    expect(name).toBe('one');
    expect(Math.abs(Number(time) - Date.now() / 1000)).toBeLessThan(120);
    await manager.delete('one', { force: true });

    const hook = 'if [ $1 = bad ]; then echo no such place >&2; exit 3; fi; echo $1 $2 >/tmp/who';
    await inGuest(
      manager,
      'web',
      `mkdir -p /etc/fairlead; printf '#!/bin/sh\\n%s\\n' '${hook}' >/etc/fairlead/cloned; chmod +x /etc/fairlead/cloned`,
    );
    await create('own');
    const own = await told.clone(parseParams('vm.clone', { snapshot: 'own', names: ['good', 'bad'] }), {});
    const numbers = await Promise.all(['good', 'bad'].map((vm) => inGuest(manager, vm, 'head -c 32 /dev/urandom | sha256sum')));
    expect(new Set(numbers).size, 'their kernels have no driver of the generation id').toBe(2);
    expect(await inGuest(manager, 'good', 'cat /tmp/who; hostname')).toBe(`good ${manager.get('good').uuid}\nfairlead-guest`);
    expect(own).toMatchObject({
      randomSeeds: {},
      clocks: {},
      hostNames: { bad: expect.stringMatching(/ended with 3: no such place/) },
    });
    for (const vm of ['good', 'bad']) await manager.delete(vm, { force: true });

    await inGuest(manager, 'web', 'kill -9 $(pidof qemu-ga)');
    await create('mute');
    const mute = await told.clone(parseParams('vm.clone', { snapshot: 'mute', names: ['quiet'] }), {});
    expect(mute).toMatchObject({
      randomSeeds: { quiet: expect.stringContaining('quiet') },
      clocks: { quiet: expect.stringContaining('quiet') },
      hostNames: { quiet: expect.stringContaining('quiet') },
    });
    expect(manager.get('quiet').state).toBe('running');
  });

  test('one that gives memory back, grows and shrinks leaves the base as it was', async () => {
    const { manager } = host;
    await runWeb({ memory: { ...FILE_RAM, maxBytes: '384MiB' } });
    await create('gold');
    const before = await ramHash('gold');
    const { memory } = await clone('gold', 1);
    expect(memory).toBe('copied');
    const resizer = new MemoryResizer(manager);
    for (const bytes of ['160MiB', '320MiB', '256MiB']) {
      await resizer.resize(parseParams('vm.resizeMemory', { vm: 'web-1', bytes }), {});
    }
    await inGuest(manager, 'web-1', 'dd if=/dev/urandom of=/tmp/x bs=1M count=32 2>/dev/null; rm /tmp/x');
    expect(await ramHash('gold')).toBe(before);
    expect(await snapshots.verify({ snapshot: 'gold' }, {})).toMatchObject({ ok: true });
  });
});

test.skipIf(missing !== undefined)('clones that share memory are who they are, and take less than three of one', async () => {
  await using running = await sharingClones({ count: CLONES, mebibytes: 256, randomMebibytes: 0 });
  const { host, clones, inEach, kibibytes, snapshots } = running;
  expect(clones.map(({ state }) => state)).toEqual(Array.from({ length: CLONES }, () => 'running'));
  expect(kibibytes.clones, `one takes ${kibibytes.source} KiB`).toBeLessThan(3 * kibibytes.source);
  expect(await inEach('hostname')).toEqual(clones.map(({ name }) => name));
  expect(new Set(await inEach('cat /sys/class/net/eth*/address')).size).toBe(CLONES);
  await expect(snapshots.remove({ snapshot: 'gold' })).rejects.toMatchObject({ code: 'CONFLICT' });
  expect(await snapshots.verify({ snapshot: 'gold' }, {})).toMatchObject({ ok: true });
  await expect(
    host.manager.suspend('web-1', { durability: 'process' }),
    'its RAM is in no file of its own',
  ).rejects.toMatchObject({
    code: 'UNSUPPORTED',
  });
});
