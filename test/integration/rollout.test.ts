/** Rollouts end to end: command line, real hub, real agents with their journals and fences, VMs that are played. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { becomes, startPlayedFleet } from '../support/played-fleet.ts';

const FAST = { budget: { maxUnavailable: '100%', perZone: '100%' }, zones: { order: 'concurrent' } };
const MIB = 1024 ** 2;

describe('a rollout through hub and agents', () => {
  it('gives every VM its new spec, and takes all back again', async () => {
    await using fleet = await startPlayedFleet(['a1', 'a2', 'b1']);
    const memoryOf = () => fleet.hosts.map(({ vms }) => vms.get('vm-1').spec.memory.bytes / MIB);
    const spec = {
      ...FAST,
      selector: {},
      steps: [{ kind: 'vm', patch: { memory: { bytes: 64 * MIB } } }],
      health: { checks: [{ kind: 'vm-state' }] },
    };
    await fleet.call('rollout.start', { rollout: 'r1', spec });
    await becomes(fleet, 'r1', 'completed');
    expect(memoryOf()).toEqual([64, 64, 64]);
    expect(fleet.hosts.map(({ vms }) => vms.get('vm-1').state)).toEqual(['running', 'running', 'running']);

    await fleet.call('rollout.rollback', { rollout: 'r1', reason: 'too small' });
    await becomes(fleet, 'r1', 'rolled-back');
    expect(memoryOf()).toEqual([256, 256, 256]);
    // Each host remembers who drove it, and in its journal is each command once.
    const { fences } = JSON.parse(await readFile(join(fleet.hosts[0]?.stateDir ?? '', 'fences.json'), 'utf8'));
    expect(fences).toEqual([{ scope: 'rollout/r1', epoch: 2 }]);
    const { operations } = await fleet.call('op.list', { host: 'a1' });
    // SAFETY: rows of `op.list`.
    const rows = operations as { method: string; actor: string }[];
    expect(rows.map(({ method }) => method).toSorted()).toEqual([
      'vm.redefine',
      'vm.redefine',
      'vm.start',
      'vm.start',
      'vm.stop',
      'vm.stop',
    ]);
    expect(new Set(rows.map(({ actor }) => actor))).toEqual(new Set(['rollout r1']));
  });

  it('stops at the first host that refuses, and says why', async () => {
    await using fleet = await startPlayedFleet(['a1', 'a2']);
    const spec = { ...FAST, selector: {}, steps: [{ kind: 'vm', patch: { memory: { bytes: 'a lot' } } }] };
    await fleet.call('rollout.start', { rollout: 'r1', spec });
    await becomes(fleet, 'r1', 'paused');
    const { hosts } = await fleet.call('rollout.hosts', { rollout: 'r1', phase: 'failed' });
    expect(hosts).toMatchObject([{ failure: { class: 'rejected', error: expect.stringContaining('INVALID_PARAMS') } }]);
  });

  it('is planned, started, watched and ordered about from the command line', async () => {
    await using fleet = await startPlayedFleet(['a1', 'b1']);
    const file = JSON.stringify({ ...FAST, selector: { labels: {} }, steps: [{ kind: 'vm' }], approval: 'anyone' });
    const plan = await fleet.cli(['rollout', 'plan', '-f', '-', '--id', 'r1'], file);
    expect(plan.stdout).toMatch(/hosts +2\n[^]*zone a +1 hosts, 1 away at worst/);
    const digest = /hosts digest +(\S+)/.exec(plan.stdout)?.[1] ?? '';

    const refused = await fleet.cli(['rollout', 'start', '-f', '-', '--id', 'r1', '--planned', 'x'.repeat(64)], file);
    expect([refused.code, refused.stderr]).toEqual([4, expect.stringContaining('plan it again')]);
    const started = await fleet.cli(['rollout', 'start', '-f', '-', '--id', 'r1', '--planned', digest], file);
    expect(started.stdout).toContain('awaiting-approval');
    const watched = fleet.cli(['rollout', 'watch', 'r1']);
    await fleet.cli(['rollout', 'approve', 'r1', '--reason', 'fine']);
    const { code, stdout } = await watched;
    expect(code).toBe(0);
    expect(stdout).toMatch(/host-done[^]*ended {2}outcome=completed[^]*r1 {2}completed/);
    expect((await fleet.cli(['rollout', 'ls'])).stdout).toMatch(/r1 +- +completed +2/);
    expect((await fleet.cli(['rollout', 'pause', 'r1'])).code).toBe(4);
    expect((await fleet.cli(['rollout', 'abort', 'r1'])).code).toBe(0);
  });
});
