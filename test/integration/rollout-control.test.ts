/** Gates with a control group, on a real hub: simulated hosts whose script takes a zone away, and a hub that dies in the middle of a gate. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { SimScript } from '../../agent/sim/script.ts';
import { SharedDisk } from '../../agent/sim/shared-disk.ts';
import { SimHost } from '../../agent/sim/sim-host.ts';
import type { JsonObject } from '../../shared/errors.ts';
import { parseWith } from '../../shared/protocol/parse-with.ts';
import { becomes } from '../support/played-fleet.ts';
import { RolloutFleet, reaches } from '../support/rollout-fleet.ts';
import { startTestHub } from '../support/test-hub.ts';

const HOSTS = 12;
const HOUR_MS = 3_600_000;
const CHECKS = [{ kind: 'vm-state' as const }];
/** Zone b is away in the second hour; the test says what time it is. */
const SCRIPT = { zones: ['a', 'b', 'c'], faults: [{ kind: 'offline', hosts: { zone: 'b' }, from: '1h', for: '1h' }] };

/** A hub and simulated hosts in this process, four in each of three zones. */
async function startSimulatedFleet(scope: AsyncDisposableStack) {
  const hub = scope.use(await startTestHub({ addressHandshakesPerSecond: 1000, addressHandshakeBurst: 1000 }));
  const directory = await mkdtemp(join(tmpdir(), 'control-'));
  scope.defer(() => rm(directory, { recursive: true, force: true }));
  const disk = scope.use(await SharedDisk.open(join(directory, 'disk.log')));
  const token = await hub.hub.bootstrap.enrolToken({ maxUses: HOSTS });
  const access = { hub: hub.url.replace('http', 'ws'), token, insecure: false, maxBackoff: '100ms' };
  const script = parseWith(SimScript, SCRIPT, 'script');
  let atMs = 0;
  const hosts = Array.from({ length: HOSTS }, (_, index) => {
    const own = { name: `h${index}`, index, onOperation: () => {}, onLink: () => {}, now: () => atMs };
    return scope.use(new SimHost({ access, script, directory, disk, ...own }));
  });
  await Promise.all(hosts.map((host) => host.start()));
  const call = async (method: string, params: object): Promise<JsonObject> => {
    const { body } = await hub.post(method, params);
    if (body.error !== undefined) throw new Error(`${String(body.error.data['code'])}: ${body.error.message}`);
    // SAFETY: it came out of JSON.parse.
    return body.result as JsonObject;
  };
  const areUp = (count: number) =>
    expect.poll(async () => (await call('hub.info', {}))['hostsConnected'], { timeout: 60_000 }).toBe(count);
  await areUp(HOSTS);
  return {
    call,
    areUp,
    setTime: (ms: number): void => {
      atMs = ms;
      for (const host of hosts) host.look();
    },
  };
}

describe('a gate with a control group', { timeout: 180_000 }, () => {
  it('asks people about a zone that is down, and takes back a change that is bad', async () => {
    await using scope = new AsyncDisposableStack();
    const { call, areUp, setTime } = await startSimulatedFleet(scope);
    const gate = { checks: [{ kind: 'control', checks: CHECKS }], intervalMs: 100, deadlineMs: 300, onFailure: 'rollback' };
    const spec = {
      selector: {},
      steps: [{ kind: 'vm', patch: { labels: { release: '2' } } }],
      budget: { maxUnavailable: '100%', perZone: '100%' },
      // People promote it, when what is to befall the fleet has done so.
      waves: [{ hosts: 3, soakMs: HOUR_MS, gate }, { hosts: '100%' }],
    };
    const begin = async (rollout: string): Promise<void> => {
      await call('rollout.start', { rollout, spec });
      await becomes({ call }, rollout, 'soaking');
    };
    const why = async (rollout: string, what: 'paused' | 'stopped') => {
      const told = (await call('rollout.get', { rollout }))[what];
      return JSON.stringify(told);
    };

    await begin('r1');
    setTime(HOUR_MS);
    await areUp(8);
    await call('rollout.promote', { rollout: 'r1', reason: 'soaked enough' });
    await becomes({ call }, 'r1', 'paused');
    expect(await why('r1', 'paused')).toMatch(
      /cannot be told: 1 of 3 changed and 3 of 9 unchanged hosts are bad.*h\d+ has no line/,
    );
    setTime(2 * HOUR_MS);
    await areUp(HOSTS);
    await call('rollout.resume', { rollout: 'r1' });
    await becomes({ call }, 'r1', 'completed');

    await begin('r2');
    const { hosts } = await call('rollout.hosts', { rollout: 'r2', phase: 'done' });
    const { hosts: waiting } = await call('rollout.hosts', { rollout: 'r2', phase: 'pending' });
    // SAFETY: rows of `rollout.hosts`.
    const [[changed], [unchanged]] = [hosts as { host: string }[], waiting as { host: string }[]];
    await call('vm.stop', { host: changed?.host, vm: 'vm-1' });
    // One that somebody has changed is compared with nothing.
    await call('vm.stop', { host: unchanged?.host, vm: 'vm-1' });
    await call('rollout.promote', { rollout: 'r2', reason: 'soaked enough' });
    await becomes({ call }, 'r2', 'rolled-back');
    expect(await why('r2', 'stopped')).toContain(
      `the gate of wave 0 failed: 1 of 3 changed and 0 of 8 unchanged hosts are bad: ${changed?.host} VM vm-1 is stopped`,
    );
  });

  it('is held by the next hub when one dies in the middle of it, and changes no host by asking', async () => {
    await using fleet = await RolloutFleet.create(8, 2);
    const gate = { checks: [{ kind: 'control' as const, checks: CHECKS }], intervalMs: 100, onFailure: 'rollback' as const };
    const waves = [{ hosts: 2, soakMs: HOUR_MS, gate }, { hosts: '100%' as const }];
    const setStates = (names: Iterable<string>, state: string): void => {
      for (const name of names) Object.assign(fleet.host(name).vms.get('web') ?? {}, { state });
    };
    const waits = async (rollouts: typeof first.rollouts) => (await rollouts.get('r1')).blocked ?? '';
    const first = await fleet.hub();
    await first.rollouts.start('r1', fleet.spec({ waves }), { actor: 'alice' });
    await reaches(first.rollouts, 'r1', ['soaking']);
    setStates(fleet.hosts.keys(), 'crashed');
    await first.rollouts.order('r1', { kind: 'promote' }, { actor: 'alice', reason: 'soaked enough' });
    const incident = '2 of 2 changed and 6 of 6 unchanged hosts are bad';
    await expect.poll(() => waits(first.rollouts)).toContain(incident);
    first.kill();

    const { rollouts } = await fleet.hub();
    await expect.poll(() => waits(rollouts)).toContain(incident);
    expect((await rollouts.get('r1')).status).toBe('gating');
    const { hosts } = await rollouts.state('r1');
    const untouched = [...hosts.values()].filter(({ touched }) => !touched).map(({ host }) => host);
    // The incident is over, and the change was bad as well.
    setStates(untouched, 'running');
    expect(await reaches(rollouts, 'r1', ['rolled-back', 'paused', 'completed'])).toBe('rolled-back');
    expect((await rollouts.get('r1')).stopped?.reason).toContain('2 of 2 changed and 0 of 6 unchanged hosts are bad');
    expect(untouched.map((name) => fleet.host(name).journal.size)).toEqual([0, 0, 0, 0, 0, 0]);
  });
});
