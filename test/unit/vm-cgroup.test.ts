/**
 * Control groups of VMs: what is written where, by a directory that stands for one; and, as root, by a real one of this machine, which may
 * have no controllers. That limits hold is for test/rig/host.test.ts.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { access, constants, mkdir, mkdtemp, readdir, readFile, rm, rmdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CgroupTree, findCgroups } from '../../agent/vm/confinement/cgroup.ts';
import { Confinement } from '../../agent/vm/confinement/confinement.ts';
import { NO_GUARD, spawnGuarded } from '../../agent/vm/confinement/guarded-spawn.ts';
import { VmStore } from '../../agent/vm/store.ts';
import { silent, spec } from '../support/vm.ts';

const GIB = 1024 ** 3;
const LIMITS = { memoryBytes: GIB, cpus: 1.5, processes: 100 };

/** By a service manager, to whatever runs these tests. */
const isDelegated = /^0::.*\/agent$/m.test(readFileSync('/proc/self/cgroup', 'utf8'));

describe('the control groups of VMs', () => {
  let root: string;
  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'fl-cgroup-'));
    await writeFile(join(root, 'cgroup.controllers'), 'cpuset cpu io memory hugetlb pids');
  });
  afterEach(() => rm(root, { recursive: true }));

  it('have the limits of the VM in the files of the kernel', async () => {
    const tree = await CgroupTree.open(root);
    expect(tree.controllers).toEqual(['cpu', 'memory', 'pids']);
    const { path } = await tree.create('web', LIMITS);
    const files = Object.fromEntries((await readdir(path)).map((name) => [name, readFileSync(join(path, name), 'utf8')]));
    expect(files).toEqual({
      'memory.max': String(GIB),
      'memory.oom.group': '1',
      'cpu.max': '150000 100000',
      'pids.max': '100',
    });
  });

  it('limit what they can where some controllers are missing', async () => {
    await writeFile(join(root, 'cgroup.controllers'), 'pids');
    const { path } = await (await CgroupTree.open(root)).create('web', LIMITS);
    expect(await readdir(path)).toEqual(['pids.max']);
  });

  it('hold RAM as far as it can grow, and what QEMU needs beside it, more of it where it emulates', async () => {
    const limitOf = async (accelerator: 'kvm' | 'tcg'): Promise<number> => {
      const confinement = await Confinement.open({ cgroup: root, memoryOverheadBytes: 1 }, silent);
      const web = spec({ name: accelerator, accelerator, memory: { bytes: '64MiB', maxBytes: '1GiB' } });
      const directory = join(root, 'dir');
      const store = new VmStore({ stateDir: directory, runDir: directory });
      await confinement.enter(web, store.paths(accelerator));
      return Number(await readFile(join(root, `vm-${accelerator}/memory.max`), 'utf8'));
    };
    expect(await limitOf('kvm')).toBe(GIB + GIB / 32 + 1);
    expect(await limitOf('tcg')).toBe(2 * GIB + GIB / 32 + 1);
  });

  it('tell how often the kernel ran out of memory in one', async () => {
    const group = (await CgroupTree.open(root)).of('web');
    expect(group.outOfMemoryKills()).toBe(0);
    await mkdir(group.path);
    await writeFile(join(group.path, 'memory.events'), 'low 0\nhigh 0\nmax 9\noom 1\noom_kill 2\noom_group_kill 1\n');
    expect(group.outOfMemoryKills()).toBe(2);
  });

  it('are not there where there are none, with the reason', async () => {
    expect(await findCgroups('off')).toMatchObject({ available: false, reason: expect.stringContaining('cgroup: off') });
    expect(await findCgroups(join(root, 'nowhere/deep'))).toMatchObject({
      available: false,
      reason: expect.stringContaining('no control group'),
    });
    await writeFile(join(root, 'cgroup.controllers'), 'rdma');
    expect(await findCgroups(root)).toMatchObject({
      available: false,
      reason: expect.stringContaining('none of the controllers'),
    });
  });

  it.skipIf(isDelegated)('are not taken by themselves where the agent would sit among its VMs', async () => {
    expect(await findCgroups('auto')).toMatchObject({ available: false });
  });

  it('take in what a VM starts later, unless it was started before there were groups', async () => {
    const confinement = await Confinement.open({ cgroup: root }, silent);
    const store = new VmStore({ stateDir: root, runDir: root });
    expect(confinement.guardOf('web').cgroup).toBeUndefined();
    await confinement.enter(spec({ name: 'web' }), store.paths('web'));
    expect(confinement.guardOf('web').cgroup).toMatchObject({ path: join(root, 'vm-web') });
  });

  it('that are not there keep no VM from being started', async () => {
    const confinement = await Confinement.open({ cgroup: join(root, 'nowhere/deep') }, silent);
    const store = new VmStore({ stateDir: root, runDir: root });
    expect(await confinement.enter(spec({ name: 'web' }), store.paths('web'))).toMatchObject({ cgroup: undefined });
    await confinement.leave('web');
  });
});

/** A mounted hierarchy of version 2 in which this process may make groups. */
async function realRoot(): Promise<string | undefined> {
  const mount = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .find((line) => line.includes(' - cgroup2 '))
    ?.split(' ')[4];
  if (mount === undefined) return undefined;
  return access(mount, constants.W_OK).then(
    () => mount,
    () => undefined,
  );
}

const mount = process.getuid?.() === 0 ? await realRoot() : undefined;
if (mount === undefined) console.warn('skipped: no control groups of version 2 that this user may make');

describe.skipIf(mount === undefined)('a real control group', () => {
  const root = join(mount ?? '', `fairlead-test-${process.pid}`);
  beforeEach(() => mkdir(root));
  afterEach(async () => {
    for (const name of await readdir(root))
      if (name.startsWith('vm-')) await (await CgroupTree.open(root)).of(name.slice(3)).remove();
    await rmdir(root);
  });

  it('has the process in it before the program runs, and goes with all that is in it', async () => {
    const tree = await CgroupTree.open(root);
    const cgroup = await tree.create('web', LIMITS);
    const guard = { ...NO_GUARD, cgroup };
    const script = 'grep -q /vm-web$ /proc/self/cgroup && sleep 600 & sleep 600';
    const child = spawnGuarded({ binary: '/bin/sh', argv: ['-c', script], env: {}, input: 'none', descriptors: [], guard });
    const exited = once(child, 'exit');
    await expect.poll(() => readFileSync(join(cgroup.path, 'cgroup.procs'), 'utf8').trim().split('\n').length).toBe(3);
    await cgroup.remove();
    expect(await exited).toEqual([null, 'SIGKILL']);
    expect(existsSync(cgroup.path)).toBe(false);
    await cgroup.remove();
  });

  it('that an earlier life left behind is made anew', async () => {
    const tree = await CgroupTree.open(root);
    const left = await tree.create('web', LIMITS);
    const stray = spawn('/bin/sleep', ['600'], { stdio: 'ignore' });
    left.admit(stray.pid ?? 0);
    const ended = once(stray, 'exit');
    const { path } = await tree.create('web', LIMITS);
    expect(await ended).toEqual([null, 'SIGKILL']);
    expect(readFileSync(join(path, 'cgroup.procs'), 'utf8')).toBe('');
  });
});
