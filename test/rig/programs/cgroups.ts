/** Control groups with all their controllers, run inside a VM whose only owner is this program. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { findCgroups } from '../../../agent/vm/confinement/cgroup.ts';
import { nextEvent, spec, testHost } from '../../support/vm.ts';
import { runCases } from '../../support/vm-cases.ts';

const MOUNT = '/sys/fs/cgroup';
const MIB = 1024 ** 2;
const USER = '1234';
execFileSync('mount', ['-t', 'cgroup2', 'none', MOUNT]);
// As a service manager would have.
writeFileSync(join(MOUNT, 'cgroup.subtree_control'), '+cpu +memory +pids');

const read = (path: string): string => readFileSync(path, 'utf8').trim();

await runCases({
  'a VM is in a group of its own with its limits, as the user that it runs as, and leaves none behind': async () => {
    const root = join(MOUNT, 'fairlead');
    await using host = await testHost({ confinement: { cgroup: root, user: USER, group: USER } });
    execFileSync('chmod', ['711', join(host.options.stateDir, '..')]);
    const { pid = 0 } = await host.manager.run(spec({ name: 'web', cpus: { count: 2 } }));
    assert.equal(read(`/proc/${pid}/cgroup`), '0::/fairlead/vm-web');
    assert.match(read(`/proc/${pid}/status`), /^Uid:\s1234\s1234/m);
    const group = join(root, 'vm-web');
    assert.equal(read(join(group, 'memory.max')), String(64 * MIB + 2 * MIB + 256 * MIB + 1024 * MIB));
    assert.equal(read(join(group, 'memory.oom.group')), '1');
    assert.equal(read(join(group, 'cpu.max')), '250000 100000');
    assert.equal(read(join(group, 'pids.max')), '260');
    assert.ok(Number(read(join(group, 'memory.current'))) > 10 * MIB, 'what QEMU took is counted for the group');
    assert.deepEqual((await host.manager.hostInfo()).limits, { available: true, detail: 'cpu, memory, pids' });

    const manager = await host.restart();
    await manager.stop('web', { graceMs: 0 });
    assert.ok(!existsSync(group));
  },

  'a VM that takes more memory than it may is ended, and that is said': async () => {
    await using host = await testHost({ confinement: { cgroup: join(MOUNT, 'fairlead') } });
    await host.manager.run(spec({ name: 'hungry' }));
    const crashed = nextEvent(host.manager, 'vm.crashed');
    writeFileSync(join(MOUNT, 'fairlead/vm-hungry/memory.max'), String(4 * MIB));
    const { data } = await crashed;
    assert.equal(Reflect.get(data, 'reason'), 'out-of-memory');
    assert.equal(host.manager.get('hungry').exit?.reason, 'out-of-memory');
  },

  'one that runs out of memory while no agent is there is found so': async () => {
    await using host = await testHost({ confinement: { cgroup: join(MOUNT, 'fairlead') } });
    const { pid = 0 } = await host.manager.run(spec({ name: 'hungry' }));
    await host.manager.close();
    writeFileSync(join(MOUNT, 'fairlead/vm-hungry/memory.max'), String(4 * MIB));
    while (existsSync(`/proc/${pid}/exe`)) execFileSync('sleep', ['0.1']);
    const manager = await host.restart();
    assert.equal(manager.get('hungry').exit?.reason, 'out-of-memory');
    assert.ok(!existsSync(join(MOUNT, 'fairlead/vm-hungry')));
  },

  'a group that has processes of its own is refused with the reason': async () => {
    const root = join(MOUNT, 'inhabited');
    mkdirSync(root);
    writeFileSync(join(root, 'cgroup.procs'), String(process.pid));
    const found = await findCgroups(root);
    writeFileSync(join(MOUNT, 'cgroup.procs'), String(process.pid));
    assert.deepEqual(found, { available: false, reason: `${root} holds processes itself, so nothing below it can be limited` });
  },

  'the group that a service manager has delegated is found by itself': async () => {
    for (const path of ['service', 'service/agent']) mkdirSync(join(MOUNT, path));
    writeFileSync(join(MOUNT, 'service/agent/cgroup.procs'), String(process.pid));
    const found = await findCgroups('auto');
    assert.ok(found.available);
    assert.equal(found.tree.root, join(MOUNT, 'service'));
    assert.deepEqual(found.tree.controllers, ['cpu', 'memory', 'pids']);
  },
});

execFileSync('umount', [MOUNT]);
