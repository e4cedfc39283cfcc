/** What the script of a simulated fleet means for one host at one moment, and how a simulated VM keeps to it. */
import { setImmediate as turn } from 'node:timers/promises';
import * as v from 'valibot';
import { describe, expect, it } from 'vitest';
import { HostFaults, labelsOf, SimScript } from '../../agent/sim/script.ts';
import { SimVms } from '../../agent/sim/sim-vms.ts';
import { VmInfo } from '../../shared/protocol/vm.ts';
import { VmEvent } from '../../shared/protocol/vm-events.ts';
import { VmSpec } from '../../shared/protocol/vm-spec.ts';
import { silent } from '../support/vm.ts';

const script = (text: v.InferInput<typeof SimScript>) => v.parse(SimScript, text);
const host = (name: string, zone = 'north') => ({ name, labels: { zone } });
const NAMES = Array.from({ length: 1000 }, (_, index) => `sim-${index}`);

describe('the script of a simulated fleet', () => {
  it('deals out the zones in turn', () => {
    const zones = [0, 1, 2, 3].map((index) => labelsOf(script({ zones: ['a', 'b', 'c'], labels: { site: 'x' } }), index));
    expect(zones.map(({ zone }) => zone)).toEqual(['a', 'b', 'c', 'a']);
    expect(zones[0]).toEqual({ zone: 'a', site: 'x' });
  });

  it('takes a zone down for a time, and no other', () => {
    const down = script({ faults: [{ kind: 'offline', hosts: { zone: 'north' }, from: '10s', for: '5s' }] });
    const [north, south] = [new HostFaults(down, host('a')), new HostFaults(down, host('a', 'south'))];
    expect([9_999, 10_000, 14_999, 15_000].map((at) => north.isOnline(at))).toEqual([true, false, false, true]);
    expect([north.hasWeather, south.hasWeather]).toEqual([true, false]);
    expect(south.isOnline(12_000)).toBe(true);
  });

  it('lets a host flap, each at its own moment, for the share of time that is said', () => {
    const flapping = script({ faults: [{ kind: 'flapping', up: '3s', down: '1s' }] });
    const faults = NAMES.map((name) => new HostFaults(flapping, host(name)));
    const online = faults.filter((one) => one.isOnline(7_777)).length;
    expect(online).toBeGreaterThan(700);
    expect(online).toBeLessThan(800);
  });

  it('chooses the share of the hosts that is said, and the same ones each time', () => {
    const share = script({ faults: [{ kind: 'offline', hosts: { percent: 10 } }] });
    const chosen = () => NAMES.filter((name) => new HostFaults(share, host(name)).hasWeather);
    expect(chosen().length).toBeGreaterThan(70);
    expect(chosen().length).toBeLessThan(130);
    expect(chosen()).toEqual(chosen());
    const other = script({ seed: 2, faults: [{ kind: 'offline', hosts: { percent: 10 } }] });
    expect(NAMES.filter((name) => new HostFaults(other, host(name)).hasWeather)).not.toEqual(chosen());
  });

  it('slows operations down, and lets the share of them fail that is said, of those that are said', () => {
    const faults = new HostFaults(
      script({
        operation: { min: 10, max: 10 },
        faults: [
          { kind: 'slow', factor: 5 },
          { kind: 'failing', operations: ['vm.start'], percent: 50, code: 'PROCESS_FAILED' },
        ],
      }),
      host('a'),
    );
    expect(faults.next('vm.stop', 0)).toEqual({ delayMs: 50, error: undefined });
    const failures = Array.from({ length: 200 }, () => faults.next('vm.start', 0).error?.code).filter(
      (code) => code === 'PROCESS_FAILED',
    );
    expect(failures.length).toBeGreaterThan(60);
    expect(failures.length).toBeLessThan(140);
  });

  it('lets a change fail alone: operations of VMs with the labels that it gives them', () => {
    const bad = { kind: 'failing' as const, operations: ['vm.start'], vmLabels: { release: '2' } };
    const faults = new HostFaults(script({ faults: [bad] }), host('a'));
    const code = (method: string, labels?: Record<string, string>) => faults.next(method, 0, labels).error?.code;
    expect([code('vm.start', { release: '1' }), code('vm.start'), code('vm.stop', { release: '2' })]).toEqual([
      undefined,
      undefined,
      undefined,
    ]);
    expect(code('vm.start', { release: '2', tier: 'web' })).toBe('INTERNAL');
  });

  it.each([
    { faults: [{ kind: 'burning' }] },
    { faults: [{ kind: 'failing', code: 'NO_SUCH_CODE' }] },
    { zones: [] },
    { hosts: 3 },
  ])('says what is wrong with %j', (text) => {
    expect(v.safeParse(SimScript, text).success).toBe(false);
  });
});

describe('a simulated VM', () => {
  const vmsOf = (text: v.InferInput<typeof SimScript> = {}) => {
    const faults = new HostFaults(script({ operation: { min: 0, max: 0 }, ...text }), host('a'));
    const done: boolean[] = [];
    const now = () => 0;
    const onOperation = (ok: boolean): void => void done.push(ok);
    return { done, vms: new SimVms({ host: host('a'), count: 1, maxVms: 2, faults, now, onOperation, logger: silent }) };
  };

  it('goes through its states as a real one does, and tells of each with what the contract says', async () => {
    const { vms } = vmsOf();
    await vms.pause('vm-1');
    await vms.resume('vm-1');
    await vms.reset('vm-1');
    await vms.suspend('vm-1', { durability: 'host' });
    await vms.resume('vm-1');
    expect((await vms.stop('vm-1')).endedBy).toBe('guest');
    await vms.start('vm-1');
    expect(v.parse(VmInfo, vms.get('vm-1'))).toMatchObject({ state: 'running', generation: 3 });
    await vms.delete('vm-1', { force: true });
    expect(vms.list()).toEqual([]);
    const { events } = vms.events.query({});
    for (const event of events) v.parse(VmEvent, event);
    expect(events.map(({ type }) => type.replace('vm.', ''))).toEqual(
      'created started paused resumed reset suspending suspended resumed stopping stopped started stopping stopped deleted'.split(
        ' ',
      ),
    );
  });

  it('refuses what a real one would, and what cannot be played', async () => {
    const { vms } = vmsOf();
    await expect(vms.start('vm-1')).rejects.toMatchObject({ code: 'WRONG_STATE' });
    await expect(vms.pause('vm-9')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(vms.operate('vm-1', { doing: 'x', inTurn: true }, {}, async () => 1)).rejects.toMatchObject({
      code: 'UNSUPPORTED',
    });
    await vms.create(v.parse(VmSpec, { name: 'two' }));
    await expect(vms.create(v.parse(VmSpec, { name: 'two' }))).rejects.toMatchObject({ code: 'CONFLICT' });
    await expect(vms.create(v.parse(VmSpec, { name: 'three' }))).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED' });
  });

  it('fails as the script says, and stays as it was', async () => {
    const { vms, done } = vmsOf({ faults: [{ kind: 'failing', operations: ['vm.stop'] }] });
    await expect(vms.stop('vm-1')).rejects.toMatchObject({ code: 'INTERNAL' });
    expect(vms.get('vm-1').state).toBe('running');
    expect(done).toEqual([false]);
  });

  it('lets a caller give up, and nothing happens then', async () => {
    const { vms } = vmsOf({ operation: { min: 3_600_000, max: 3_600_000 } });
    const given = new AbortController();
    const stopping = vms.stop('vm-1', { signal: given.signal });
    await turn();
    given.abort();
    await expect(stopping).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(vms.get('vm-1').state).toBe('running');
  });
});
