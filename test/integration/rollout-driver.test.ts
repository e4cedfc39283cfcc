/** Rollouts that are driven: by hubs that die at any write, over hosts that keep journals as agents do. */
import { describe, expect, it } from 'vitest';
import { ROLLOUTS } from '../../hub/rollout/records.ts';
import { HOSTS } from '../../hub/store/records.ts';
import { FairleadError, toFairleadError } from '../../shared/errors.ts';
import { RolloutFleet, reaches } from '../support/rollout-fleet.ts';

const ENDED = ['completed', 'aborted', 'rolled-back', 'rollback-failed'];
const by = { actor: 'alice', reason: 'because' };

async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return 'OK';
  } catch (error) {
    return toFairleadError(error).code;
  }
}

describe('a rollout of VMs', () => {
  it('stops, changes and starts what ran, and changes without starting what did not', async () => {
    await using fleet = await RolloutFleet.create(2);
    const resting = fleet.host('h1').vms.get('web');
    if (resting !== undefined) resting.state = 'stopped';
    const { rollouts } = await fleet.hub();
    await rollouts.start('r1', fleet.spec(), { actor: 'alice' });
    expect(await reaches(rollouts, 'r1', ENDED)).toBe('completed');
    expect(fleet.host('h0').methods).toEqual(['vm.stop', 'vm.redefine', 'vm.start']);
    expect(fleet.host('h1').methods).toEqual(['vm.stop', 'vm.redefine']);
    expect(fleet.host('h1').vms.get('web')).toEqual({ spec: { name: 'web', memory: { bytes: 2 } }, state: 'stopped' });
  });

  it('is taken back to what was recorded, also long after its end, but for hosts that a later one has changed', async () => {
    await using fleet = await RolloutFleet.create(3);
    const { rollouts } = await fleet.hub();
    await rollouts.start('r1', fleet.spec(), { actor: 'alice' });
    await reaches(rollouts, 'r1', ENDED);
    const steps = [{ kind: 'vm' as const, patch: { memory: { bytes: 3 } } }];
    await rollouts.start('r2', fleet.spec({ selector: { hosts: ['h1'] }, steps }), { actor: 'alice' });
    await reaches(rollouts, 'r2', ENDED);
    await rollouts.order('r1', { kind: 'rollback', except: [] }, by);
    expect(await reaches(rollouts, 'r1', ['rolled-back', 'rollback-failed'])).toBe('rolled-back');
    const bytes = [...fleet.hosts.values()].map(({ vms }) => vms.get('web')?.spec['memory']);
    expect(bytes).toEqual([{ bytes: 1 }, { bytes: 3 }, { bytes: 1 }]);
    expect(fleet.host('h0').vms.get('web')?.state).toBe('running');
  });

  it('has its hosts to itself until its end', async () => {
    await using fleet = await RolloutFleet.create(3);
    const { rollouts } = await fleet.hub();
    await rollouts.start('r1', fleet.spec({ approval: 'anyone' }), { actor: 'alice' });
    expect(await codeOf(rollouts.start('r2', fleet.spec({ selector: { hosts: ['h1'] } }), { actor: 'bob' }))).toBe('CONFLICT');
    await rollouts.order('r1', { kind: 'abort' }, by);
    await reaches(rollouts, 'r1', ENDED);
    expect((await rollouts.start('r2', fleet.spec({ selector: { hosts: ['h1'] } }), { actor: 'bob' })).rollout).toBe('r2');
  });

  it('waits for what people do by hand: it uses up the budget as well', async () => {
    await using fleet = await RolloutFleet.create(3);
    const cordoned = { reason: 'disks', by: 'bob', atMs: 0, drained: true };
    await fleet.store.collection(HOSTS).modify('h2', (host) => ({ ...host, cordoned }));
    const { rollouts, bus } = await fleet.hub();
    bus.publish('command.begun', { host: 'h1', id: 'c1', method: 'vm.stop' });
    const spec = fleet.spec({
      budget: { maxUnavailable: 2, perZone: 2 },
      selector: {},
      waves: [{ hosts: '100%' }],
      maxInFlight: 1,
    });
    await rollouts.start('r1', spec, { actor: 'alice' });
    // The two that are away already cost nothing more.
    await expect.poll(async () => (await rollouts.get('r1')).blocked ?? '').toContain('budget is used up');
    expect(fleet.host('h0').journal.size).toBe(0);
    bus.publish('command.ended', { host: 'h1', id: 'c1' });
    expect(await reaches(rollouts, 'r1', ENDED)).toBe('completed');
  });

  it('is started once, however often it is asked for', async () => {
    await using fleet = await RolloutFleet.create(2);
    const { rollouts } = await fleet.hub();
    await Promise.all([1, 2, 3].map(() => rollouts.start('r1', fleet.spec(), { actor: 'alice' })));
    expect(await codeOf(rollouts.start('r1', fleet.spec({ maxInFlight: 2 }), { actor: 'alice' }))).toBe('CONFLICT');
    await reaches(rollouts, 'r1', ENDED);
    await rollouts.start('r1', fleet.spec(), { actor: 'alice' });
    expect([...fleet.hosts.values()].map(({ methods }) => methods.length)).toEqual([3, 3]);
  });
});

describe('a rollout of calls', () => {
  it('has nothing to record, and takes back what it did by the calls that undo it', async () => {
    await using fleet = await RolloutFleet.create(3);
    const { rollouts } = await fleet.hub();
    const call = { params: { vm: 'web' } };
    const steps = [{ kind: 'call' as const, method: 'vm.stop', ...call, undo: { method: 'vm.start', ...call } }];
    await rollouts.start('r1', fleet.spec({ steps }), { actor: 'alice' });
    expect(await reaches(rollouts, 'r1', ENDED)).toBe('completed');
    const types = (await rollouts.events('r1', 0, 1000)).map(({ fact }) => fact.type);
    expect(types.filter((type) => type.startsWith('host-')).toSorted()).toEqual([
      ...Array.from({ length: 3 }, () => 'host-done'),
      ...Array.from({ length: 3 }, () => 'host-started'),
    ]);
    await rollouts.order('r1', { kind: 'rollback', except: [] }, by);
    expect(await reaches(rollouts, 'r1', ['rolled-back', 'rollback-failed'])).toBe('rolled-back');
    expect(new Set([...fleet.hosts.values()].map(({ methods }) => methods.join()))).toEqual(new Set(['vm.stop,vm.start']));
  });
});

describe('the figures of a rollout that has ended', () => {
  it('are those of its journal, also when another hub has gone on with it', async () => {
    await using fleet = await RolloutFleet.create(3);
    const first = await fleet.hub();
    await first.rollouts.start('r1', fleet.spec(), { actor: 'alice' });
    await reaches(first.rollouts, 'r1', ENDED);
    // Noted in its record a little after its end.
    await expect.poll(async () => (await first.rollouts.get('r1')).endedAt).toBeDefined();
    const ended = await first.rollouts.get('r1');
    const second = await fleet.hub();
    expect(await second.rollouts.get('r1')).toEqual(ended);
    await second.rollouts.order('r1', { kind: 'rollback', except: [] }, by);
    expect(await reaches(second.rollouts, 'r1', ['rolled-back', 'rollback-failed'])).toBe('rolled-back');
    await expect.poll(async () => (await second.rollouts.get('r1')).endedAt).not.toBe(ended.endedAt);
    expect(await first.rollouts.get('r1')).toEqual(await second.rollouts.get('r1'));
    expect((await first.rollouts.get('r1')).phases).toEqual({ restored: 3 });
  });
});

describe('a hub that drives a rollout', () => {
  /** How many writes of the journal there are, when nobody dies. */
  const writesOf = async (): Promise<number> => {
    await using fleet = await RolloutFleet.create(5, 2);
    const hub = await fleet.hub();
    await hub.rollouts.start('r1', fleet.spec({ maxInFlight: 2 }), { actor: 'alice' });
    await reaches(hub.rollouts, 'r1', ENDED);
    return hub.writes;
  };

  it('may die at any write, and the next one goes on: no command twice, no host lost', async () => {
    const writes = await writesOf();
    expect(writes).toBeGreaterThan(8);
    for (let atWrite = 2; atWrite <= writes; atWrite++) {
      for (const isDurable of [false, true]) {
        await using fleet = await RolloutFleet.create(5, 2);
        const first = await fleet.hub({ atWrite, isDurable });
        const started = first.rollouts.start('r1', fleet.spec({ maxInFlight: 2 }), { actor: 'alice' });
        await Promise.race([first.died, started.then(() => reaches(first.rollouts, 'r1', ENDED))]);
        first.kill();
        const { rollouts } = await fleet.hub();
        expect(await reaches(rollouts, 'r1', ENDED)).toBe('completed');
        const methods = [...fleet.hosts.values()].map((host) => host.methods.join());
        expect(new Set(methods), `dead at write ${atWrite}`).toEqual(new Set(['vm.stop,vm.redefine,vm.start']));
      }
    }
  });

  it('gives hosts the time to come back to it before it counts one as lost, on the way back as well', async () => {
    await using fleet = await RolloutFleet.create(3);
    const first = await fleet.hub();
    await first.rollouts.start('r1', fleet.spec({ hostTimeoutMs: 1000 }), { actor: 'alice' });
    await reaches(first.rollouts, 'r1', ENDED);
    fleet.host('h1').isUp = false;
    await first.rollouts.order('r1', { kind: 'rollback', except: [] }, by);
    await expect.poll(async () => (await first.rollouts.get('r1')).phases).toEqual({ restored: 2, done: 1 });
    first.kill();
    fleet.settleMs = 60_000;
    const { rollouts, bus } = await fleet.hub();
    fleet.laterMs = 50_000;
    // It looks at everything before it answers.
    await rollouts.order('r1', { kind: 'rate', maxInFlight: 2 }, by).catch(() => {});
    expect((await rollouts.get('r1')).status).toBe('rolling-back');
    fleet.host('h1').isUp = true;
    bus.publish('host.connected', { host: 'h1', epoch: 2 });
    expect(await reaches(rollouts, 'r1', ['rolled-back', 'rollback-failed'])).toBe('rolled-back');
  });

  it('is obeyed no more once another has taken over', async () => {
    await using fleet = await RolloutFleet.create(3);
    const first = await fleet.hub();
    await first.rollouts.start('r1', fleet.spec({ waves: [{ hosts: 1, approval: true }, { hosts: '100%' }] }), {
      actor: 'alice',
    });
    await reaches(first.rollouts, 'r1', ['awaiting-approval']);
    const second = await fleet.hub();
    await second.rollouts.order('r1', { kind: 'approve' }, by);
    await reaches(second.rollouts, 'r1', ENDED);
    const before = [...fleet.hosts.values()].map(({ journal }) => journal.size);
    // The first believes that the rollout still waits for the approval, and acts on it.
    const events = (await second.rollouts.events('r1', 0, 1000)).length;
    expect(await codeOf(first.rollouts.order('r1', { kind: 'approve' }, by))).toBe('INTERRUPTED');
    expect(first.rollouts.drivers.get('r1')).toBe(undefined);
    expect((await second.rollouts.events('r1', 0, 1000)).length).toBe(events);
    expect([...fleet.hosts.values()].map(({ journal }) => journal.size)).toEqual(before);
  });

  it('refuses an order that it could not write down, and goes on from what is written', async () => {
    await using fleet = await RolloutFleet.create(3);
    const { rollouts } = await fleet.hub();
    await rollouts.start('r1', fleet.spec({ approval: 'anyone' }), { actor: 'alice' });
    fleet.failure = new FairleadError('STORAGE_FAILED', 'no space left on device');
    expect(await codeOf(rollouts.order('r1', { kind: 'pause' }, by))).toBe('STORAGE_FAILED');
    expect((await rollouts.order('r1', { kind: 'approve' }, by)).status).not.toBe('paused');
    expect(await reaches(rollouts, 'r1', ENDED)).toBe('completed');
  });

  it('tells how a rollout has ended though its record cannot be written, and writes it as soon as it can', async () => {
    await using fleet = await RolloutFleet.create(2);
    const { rollouts } = await fleet.hub();
    fleet.recordFailures = Number.POSITIVE_INFINITY;
    await rollouts.start('r1', fleet.spec(), { actor: 'alice' });
    await reaches(rollouts, 'r1', ENDED);
    const told = async () => (await rollouts.list()).map(({ status, endedAtMs }) => [status, endedAtMs !== undefined]);
    await expect.poll(told).toEqual([['completed', true]]);
    const stored = async () => (await fleet.store.collection(ROLLOUTS).get('r1'))?.value.status;
    expect(await stored()).toBe('running');
    fleet.recordFailures = 0;
    await expect.poll(stored, { timeout: 20_000 }).toBe('completed');
  });

  it('starts nothing that was not under way when a pause is acknowledged', async () => {
    await using fleet = await RolloutFleet.create(40, 4);
    for (const host of fleet.hosts.values()) host.tookMs = 20;
    const { rollouts } = await fleet.hub();
    await rollouts.start('r1', fleet.spec({ maxInFlight: 4, zones: { order: 'concurrent', maxInFlight: 4 } }), {
      actor: 'alice',
    });
    const begun = () => [...fleet.hosts.values()].filter(({ journal }) => journal.size > 0).length;
    await expect.poll(() => begun()).toBeGreaterThan(0);
    await rollouts.order('r1', { kind: 'pause' }, by);
    const underWay = begun();
    const { phases } = await rollouts.get('r1');
    await expect.poll(async () => (await rollouts.get('r1')).inFlight).toBe((await rollouts.get('r1')).phases.held ?? 0);
    const changing = phases.changing ?? 0;
    expect(begun()).toBeLessThanOrEqual(underWay + changing);
    await rollouts.order('r1', { kind: 'resume' }, by);
    expect(await reaches(rollouts, 'r1', ENDED)).toBe('completed');
  });

  it('holds the whole fleet while changes are frozen, also over its own restart', async () => {
    await using fleet = await RolloutFleet.create(2);
    const first = await fleet.hub();
    await first.rollouts.setFreeze({ by: 'bob', reason: 'the big sale', atMs: 0 });
    await first.rollouts.start('r1', fleet.spec(), { actor: 'alice' });
    await expect.poll(async () => (await first.rollouts.get('r1')).blocked).toContain('the big sale');
    first.kill();
    const { rollouts } = await fleet.hub();
    await expect.poll(async () => (await rollouts.get('r1')).blocked).toContain('the big sale');
    expect(fleet.host('h0').journal.size + fleet.host('h1').journal.size).toBe(0);
    await rollouts.setFreeze(undefined);
    expect(await reaches(rollouts, 'r1', ENDED)).toBe('completed');
  });
});
