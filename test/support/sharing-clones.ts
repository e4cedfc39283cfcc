/**
 * Clones of one guest that share its memory, at once: who each of them is, by its agent and by ours, and what all of them take. The guest
 * has no vsock, since that of a host without vhost-vsock works on memory of its own; what it is asked goes over virtio-serial.
 */
import { readFile } from 'node:fs/promises';
import { Guests } from '../../agent/vm/guest-agent/guests.ts';
import { nameGuest } from '../../agent/vm/guest-agent/name-guest.ts';
import { seedGuest } from '../../agent/vm/guest-agent/seed-guest.ts';
import type { Snapshots } from '../../agent/vm/snapshot/snapshots.ts';
import { parseParams } from '../../shared/protocol/validate.ts';
import type { VmInfo } from '../../shared/protocol/vm.ts';
import { linuxSpec } from './linux-vm.ts';
import { snapshotsOf } from './snapshots.ts';
import { silent, spec, type TestHost, testHost } from './vm.ts';

export interface SharingClones extends AsyncDisposable {
  readonly host: TestHost;
  readonly snapshots: Snapshots;
  readonly clones: readonly VmInfo[];
  /** What a shell command in each prints, side by side. */
  inEach(command: string): Promise<string[]>;
  /** Proportional set size (proc(5), smaps_rollup), of the guest that was saved and of all its clones together. */
  readonly kibibytes: { readonly source: number; readonly clones: number };
}

const ANSWER_MS = 120_000;

/** @param randomMebibytes of its memory are in use for data. The guest that was saved is paused afterwards. */
export async function sharingClones({
  count,
  mebibytes,
  randomMebibytes,
}: {
  readonly count: number;
  readonly mebibytes: number;
  readonly randomMebibytes: number;
}): Promise<SharingClones> {
  await using undo = new AsyncDisposableStack();
  const host = undo.use(await testHost({ limits: { maxVms: count + 1, maxStreamsPerVm: 1 } }));
  const { manager } = host;
  const guests = undo.use(new Guests(manager, silent));
  const inGuest = async (vm: string, command: string): Promise<string> => {
    const exec = { vm, path: '/bin/sh', args: ['-c', command], timeoutMs: ANSWER_MS, answerTimeoutMs: ANSWER_MS };
    return (await guests.exec(parseParams('guest.exec', exec), {})).stdout.trim();
  };
  const { vsock: _, ...without } = linuxSpec({
    name: 'web',
    memory: { bytes: `${mebibytes}MiB`, backing: 'file' },
    devices: { balloon: false },
    networks: [{ type: 'user' }],
    guestAgent: { via: 'virtio-serial' },
  });
  await manager.run(spec(without));
  await inGuest('web', `dd if=/dev/urandom of=/tmp/data bs=1M count=${randomMebibytes} 2>/dev/null`);

  const snapshots = snapshotsOf(host, {
    setClock: (vm, { timeoutMs }) => guests.setTime(parseParams('guest.setTime', { vm, answerTimeoutMs: timeoutMs }), {}),
    seedGuest: (...clone) => seedGuest(guests, ...clone),
    nameGuest: (...clone) => nameGuest(guests, ...clone),
  });
  await snapshots.create(parseParams('snapshot.create', { vm: 'web', name: 'gold', mode: 'instant', clonable: true }), {});
  const source = await pssOf(manager.get('web'));
  await manager.pause('web');
  const { vms: clones, memory } = await snapshots.clone(parseParams('vm.clone', { snapshot: 'gold', count }), {});
  if (memory !== 'shared') throw new Error('the clones do not share memory');
  const inEach = (command: string): Promise<string[]> => Promise.all(clones.map(({ name }) => inGuest(name, command)));
  // Each has run for a while, and answered.
  await inEach('true');
  const sizes = await Promise.all(clones.map((vm) => pssOf(vm)));
  const owned = undo.move();
  return {
    host,
    snapshots,
    clones,
    inEach,
    kibibytes: { source, clones: sizes.reduce((sum, size) => sum + size, 0) },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function pssOf({ pid }: VmInfo): Promise<number> {
  const text = await readFile(`/proc/${pid ?? 0}/smaps_rollup`, 'utf8');
  return Number(/^Pss:\s+(\d+) kB/m.exec(text)?.[1]);
}
