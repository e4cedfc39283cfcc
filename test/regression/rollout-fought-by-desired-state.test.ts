/**
 * A rollout over VMs of a document failed on every host: between its commands the host saw a VM at rest that was to run, and started it, so that it
 * could not be given its new spec.
 */
import { describe, expect, it } from 'vitest';
import { VmsInHand } from '../../agent/desired/vms-in-hand.ts';
import { becomes, startPlayedFleet } from '../support/played-fleet.ts';

const MIB = 1024 ** 2;
const WIDE = { budget: { maxUnavailable: '100%', perZone: '100%' }, zones: { order: 'concurrent' } };

describe('a rollout over VMs that a document has made', () => {
  it('changes them, and takes them back, and they are kept as before after it', async () => {
    await using fleet = await startPlayedFleet(['a1', 'a2', 'b1']);
    const has = (name: string) => fleet.hosts.map(({ vms }) => vms.list().find((vm) => vm.name === name));
    const shown = () => has('web').map((vm) => `${vm?.state} ${(vm?.spec.memory.bytes ?? 0) / MIB}`);
    const all = (vm: string) => [vm, vm, vm];
    await fleet.call('fleet.apply', { document: { name: 'tier', vms: [{ spec: { name: 'web', memory: { bytes: '64MiB' } } }] } });
    await expect.poll(shown, { timeout: 20_000 }).toEqual(all('running 64'));

    const steps = [{ kind: 'vm', vms: { names: ['web'] }, patch: { memory: { bytes: 96 * MIB } } }];
    await fleet.call('rollout.start', { rollout: 'r1', spec: { ...WIDE, selector: {}, steps, waves: [{ hosts: '100%' }] } });
    await becomes(fleet, 'r1', 'completed');
    expect(shown()).toEqual(all('running 96'));
    await fleet.call('rollout.rollback', { rollout: 'r1' });
    await becomes(fleet, 'r1', 'rolled-back');
    expect(shown()).toEqual(all('running 64'));

    // Beside it, the host keeps what is in nobody's hand.
    await fleet.call('fleet.apply', { document: { name: 'more', vms: [{ spec: { name: 'db' } }] } });
    await expect.poll(() => has('db').map((vm) => vm?.state), { timeout: 20_000 }).toEqual(all('running'));
  });
});

describe('a VM that a rollout has in hand', () => {
  it('is in it while a command runs, for two minutes after, and then no more', () => {
    let nowMs = 0;
    let left = 0;
    const inHand = new VmsInHand(() => nowMs);
    inHand.listen(() => void left++);
    const [stop, again] = [inHand.take('web'), inHand.take('web')];
    nowMs = 600_000;
    expect([inHand.leftAloneMs('web') > 0, inHand.leftAloneMs('db')]).toEqual([true, 0]);
    stop[Symbol.dispose]();
    again[Symbol.dispose]();
    nowMs += 119_000;
    expect([inHand.leftAloneMs('web'), left]).toEqual([1000, 2]);
    nowMs += 1000;
    expect(inHand.leftAloneMs('web')).toBe(0);
  });
});
