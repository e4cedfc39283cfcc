/**
 * What instant suspend, resume and clone take, through hub and agent, against a bare QEMU that saves and restores by a plain stream
 * (bare-qemu.ts), and against a start. SPECIFICATION.md states the promises.
 *
 * The guests have nothing to boot: RAM is in files, so that the random data of a guest that works is put there from outside.
 */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { HubConnection } from '../../cli/connection.ts';
import { PROJECT_ROOT } from '../../cli/image/cache.ts';
import { startLine } from '../line/fixture.ts';
import type { Group } from '../main.ts';
import type { Measurement, Promised, Sides } from '../measure.ts';
import { BareQemu, fillRam, type Machine, ramFileOf } from './bare-qemu.ts';
import { firstByte, unplugAndPlug } from './woken.ts';

const MIB = 1024 ** 2;
const TWENTY_TIMES: Promised = { direction: 'at-most', kind: 'ratio', limit: 0.05 };
const FASTER: Promised = { direction: 'at-most', kind: 'ratio', limit: 1 };
const SAME_SPEED: Promised = { direction: 'at-most', kind: 'ratio', limit: 1.5 };
/** A guest that boots takes seconds; one that has nothing to boot is the least that a start can take. */
const NOT_MORE_THAN_A_START: Promised = { direction: 'at-most', kind: 'ratio', limit: 3 };

interface Size {
  readonly name: string;
  readonly mib: number;
  readonly randomMib: number;
  readonly promised: Promised;
}

const SIZES: readonly Size[] = [
  { name: '256 MiB', mib: 256, randomMib: 64, promised: FASTER },
  { name: '1 GiB', mib: 1024, randomMib: 256, promised: FASTER },
  { name: '1 GiB, 400 MiB random', mib: 1024, randomMib: 400, promised: TWENTY_TIMES },
  { name: '4 GiB', mib: 4096, randomMib: 1024, promised: FASTER },
];
const [SMALL, , , LARGE] = SIZES;

export async function snapshotGroup(): Promise<Group> {
  process.stderr.write('building dist/\n');
  await promisify(execFile)(join(PROJECT_ROOT, 'node_modules/.bin/tsc'), ['-p', 'tsconfig.build.json'], { cwd: PROJECT_ROOT });
  const directory = await mkdtemp(join(tmpdir(), 'flb-'));
  const bySize = SIZES.flatMap((size) => [suspend(directory, size), resume(directory, size), clone(directory, size)]);
  const more =
    SMALL === undefined || LARGE === undefined ? [] : [resumeBySize(directory, LARGE, SMALL), beside(directory, SMALL)];
  return {
    measurements: [...bySize, ...more, firstByte(directory), unplugAndPlug(directory)],
    [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }),
  };
}

function suspend(directory: string, size: Size): Measurement {
  return measurement(`suspend, ${size.name}`, size.promised, async (scope) => {
    const { operator, vm, machine } = await prepareVm(scope, directory, size);
    const bare = await prepareBare(scope, machine, size);
    return {
      ours: async () => {
        const ms = await timeOf(() => operator.call('vm.suspend', { vm }));
        await operator.call('vm.resume', { vm });
        return ms;
      },
      baseline: () => bare.qemu.save(bare.file),
    };
  });
}

function resume(directory: string, size: Size): Measurement {
  return measurement(`resume, ${size.name}`, size.promised, async (scope) => {
    const { operator, vm, machine } = await prepareVm(scope, directory, size);
    const restore = await prepareRestore(scope, machine, size);
    return { ours: () => timeOfResume(operator, vm), baseline: restore };
  });
}

function clone(directory: string, size: Size): Measurement {
  return measurement(`clone, ${size.name}`, FASTER, async (scope) => {
    const { operator, vm, machine } = await prepareVm(scope, directory, size);
    const name = 'gold';
    await operator.call('snapshot.create', { vm, name, mode: 'instant', clonable: true });
    scope.defer(async () => void (await operator.call('snapshot.remove', { snapshot: name })));
    const restore = await prepareRestore(scope, machine, size);
    return {
      ours: async () => {
        const ms = await timeOf(() => operator.call('vm.clone', { snapshot: name, names: ['clone'] }));
        await operator.call('vm.delete', { vm: 'clone', force: true });
        return ms;
      },
      baseline: restore,
    };
  });
}

function resumeBySize(directory: string, large: Size, small: Size): Measurement {
  return measurement(`resume, ${large.name} beside ${small.name}`, SAME_SPEED, async (scope) => {
    const [one, other] = [await prepareVm(scope, directory, large), await prepareVm(scope, directory, small)];
    return { ours: () => timeOfResume(one.operator, one.vm), baseline: () => timeOfResume(other.operator, other.vm) };
  });
}

function beside(directory: string, size: Size): Measurement {
  return measurement('resume beside a start', NOT_MORE_THAN_A_START, async (scope) => {
    const { operator, vm } = await prepareVm(scope, directory, size);
    const cold = 'cold';
    await operator.call('vm.create', { spec: specOf(cold, size) });
    scope.defer(async () => void (await operator.call('vm.delete', { vm: cold, force: true })));
    return {
      ours: () => timeOfResume(operator, vm),
      baseline: async () => {
        const ms = await timeOf(() => operator.call('vm.start', { vm: cold }));
        await operator.call('vm.stop', { vm: cold, graceMs: 0 });
        return ms;
      },
    };
  });
}

function measurement(
  name: string,
  promised: Promised,
  prepare: (scope: AsyncDisposableStack) => Promise<Omit<Sides, typeof Symbol.asyncDispose>>,
): Measurement {
  return {
    name,
    unit: 'ms',
    ...promised,
    async prepare() {
      await using scope = new AsyncDisposableStack();
      const sides = await prepare(scope);
      const all = scope.move();
      return { ...sides, [Symbol.asyncDispose]: () => all.disposeAsync() };
    },
  };
}

function specOf(name: string, { mib }: Size) {
  const devices = { balloon: false };
  return { name, memory: { bytes: mib * MIB, backing: 'file' as const }, devices };
}

/** A VM that runs, with its random data. */
async function prepareVm(
  scope: AsyncDisposableStack,
  directory: string,
  size: Size,
): Promise<{ operator: HubConnection; vm: string; machine: Machine }> {
  const vm = 'bench';
  const { operator } = await startLine(scope, directory);
  await operator.call('vm.run', { spec: specOf(vm, size) });
  scope.defer(async () => void (await operator.call('vm.delete', { vm, force: true })));
  const machine = await operator.call('vm.args', { vm });
  await fillRam(ramFileOf(machine.argv), size.randomMib * MIB);
  return { operator, vm, machine };
}

async function prepareBare(scope: AsyncDisposableStack, machine: Machine, size: Size): Promise<{ qemu: BareQemu; file: string }> {
  const own = await inMemory(scope, size);
  const qemu = scope.use(await BareQemu.spawn(machine, own));
  await qemu.run();
  await fillRam(join(own, 'ram'), size.randomMib * MIB);
  return { qemu, file: join(own, 'saved') };
}

async function prepareRestore(scope: AsyncDisposableStack, machine: Machine, size: Size): Promise<() => Promise<number>> {
  await using saving = new AsyncDisposableStack();
  const saved = join(await inMemory(scope, size), 'saved');
  const bare = await prepareBare(saving, machine, size);
  await bare.qemu.save(saved);
  return async () => {
    await using run = new AsyncDisposableStack();
    const own = await inMemory(run, size);
    const startedAt = performance.now();
    const qemu = run.use(await BareQemu.spawn(machine, own, ['-incoming', 'defer']));
    await qemu.load(saved);
    return performance.now() - startedAt;
  };
}

/** A directory on tmpfs with an empty RAM file. */
async function inMemory(scope: AsyncDisposableStack, { mib }: Size): Promise<string> {
  await mkdir('/dev/shm', { recursive: true });
  const own = await mkdtemp('/dev/shm/flb-');
  scope.defer(() => rm(own, { recursive: true, force: true }));
  await writeFile(join(own, 'ram'), '');
  await truncate(join(own, 'ram'), mib * MIB);
  return own;
}

async function timeOfResume(operator: HubConnection, vm: string): Promise<number> {
  await operator.call('vm.suspend', { vm });
  return timeOf(() => operator.call('vm.resume', { vm }));
}

async function timeOf(run: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  await run();
  return performance.now() - startedAt;
}
