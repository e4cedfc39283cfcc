/** How a host is looked at for a comparison, and how a round of looks goes: asked only, bounded, and nobody woken. */
import { describe, expect, it } from 'vitest';
import type { Actuator, Observation } from '../../hub/rollout/actuator.ts';
import { askGate, type GateRound } from '../../hub/rollout/on-host/gate-round.ts';
import { type LookOptions, lookAtHost } from '../../hub/rollout/on-host/host-look.ts';
import { FairleadError, type JsonObject } from '../../shared/errors.ts';
import { parseWith } from '../../shared/protocol/parse-with.ts';
import type { Check } from '../../shared/protocol/rollout-checks.ts';
import { RolloutSpec, type RolloutSpecInput } from '../../shared/protocol/rollout-spec.ts';

const SINCE_MS = Date.parse('2026-01-01T12:00:00Z');
const BEFORE = { exit: { at: '2026-01-01T11:00:00.000Z', reason: 'host-qmp-quit' } };
const AFTER = { exit: { at: '2026-01-01T12:00:01.000Z', reason: 'guest-shutdown' } };
const READY_PORT = { vsock: { readyPort: 1023 } };
const RAN = [{ vms: [{ name: 'web', ran: true, spec: {} }] }];
const STATE: Check = { kind: 'vm-state' };
const PROBE: Check = { kind: 'guest-probe', port: 22 };

const vmOf = (state: string, more: JsonObject = {}): JsonObject => ({
  name: 'web',
  state,
  ready: true,
  labels: {},
  spec: {},
  ...more,
});
const specOf = (more: Partial<RolloutSpecInput> = {}) =>
  parseWith(RolloutSpec, { selector: {}, steps: [{ kind: 'vm' }], ...more }, 'spec');

/** Hosts that answer, and what they were asked. */
function playedHosts(vms: JsonObject[] | Error, more: Partial<Actuator> = {}) {
  const asked: string[] = [];
  const never = () => Promise.reject(new Error('a look changes nothing and waits for no line'));
  const good: Observation = { answer: 'success', detail: '' };
  const actuator: Actuator = {
    isUp: () => true,
    whenUp: never,
    command: never,
    ask: async (host, method) => {
      asked.push(`${method} ${host}`);
      if (vms instanceof Error) throw vms;
      return { vms };
    },
    probe: async (_host, { vm }) => {
      asked.push(`probe ${vm}`);
      return good;
    },
    webhook: async (_url, body) => {
      asked.push(`webhook ${JSON.stringify(body)}`);
      return good;
    },
    ...more,
  };
  return { actuator, asked };
}

async function look(vms: JsonObject[] | Error, more: Partial<LookOptions> = {}, actuator: Partial<Actuator> = {}) {
  const played = playedHosts(vms, actuator);
  const { answer, why } = await lookAtHost({
    rollout: 'r1',
    host: 'h1',
    checks: [STATE],
    steps: specOf().steps,
    previous: [],
    sinceMs: SINCE_MS,
    actuator: played.actuator,
    timeoutMs: 1000,
    now: () => 0,
    signal: new AbortController().signal,
    ...more,
  });
  return { answer, why, asked: played.asked };
}

describe('a host that was not changed', () => {
  it.each([
    ['runs', vmOf('running'), 'good'],
    ['sleeps, by its own policy or not', vmOf('suspended'), 'good'],
    ['was paused', vmOf('paused'), 'good'],
    ['has crashed, whenever that was', vmOf('crashed', BEFORE), 'bad'],
    ['has panicked', vmOf('panicked'), 'bad'],
    ['was stopped by an I/O error', vmOf('io-error'), 'bad'],
    ['runs and is not ready', vmOf('running', { ready: false, spec: READY_PORT }), 'bad'],
    ['sleeps and is not ready', vmOf('suspended', { ready: false, spec: READY_PORT }), 'good'],
    ['was stopped before the rollout', vmOf('stopped', BEFORE), 'good'],
    ['was never started', vmOf('created'), 'good'],
    ['has ended since the rollout began', vmOf('stopped', AFTER), 'bad'],
  ])('and has a VM that %s is seen so', async (_what, vm, answer) => {
    expect((await look([vm])).answer).toBe(answer);
  });

  it('is asked about the VMs of the steps alone; of all where no step is about VMs', async () => {
    const crashed = vmOf('crashed', { name: 'batch', labels: { app: 'batch' } });
    const steps = specOf({ steps: [{ kind: 'vm', vms: { labels: { app: 'web' } } }] }).steps;
    expect((await look([crashed], { steps })).answer).toBe('good');
    const call = specOf({ steps: [{ kind: 'call', method: 'vm.start', params: { vm: 'x' } }] }).steps;
    expect(await look([crashed], { steps: call })).toMatchObject({ answer: 'bad', why: 'VM batch is crashed' });
  });
});

describe('a host that was changed', () => {
  it('is bad where a VM that ran before is at rest, or is not there any more', async () => {
    expect(await look([vmOf('stopped', BEFORE)], { previous: RAN })).toMatchObject({ answer: 'bad', why: 'VM web is stopped' });
    expect(await look([], { previous: RAN })).toMatchObject({ answer: 'bad', why: 'VM web is gone' });
    const rested = [{ vms: [{ name: 'web', ran: false, spec: {} }] }];
    expect((await look([vmOf('stopped', BEFORE)], { previous: rested })).answer).toBe('good');
  });

  it('is asked about the VMs that were changed, also where their labels are other ones by now', async () => {
    const steps = specOf({ steps: [{ kind: 'vm', vms: { labels: { release: '1' } } }] }).steps;
    const now = vmOf('crashed', { labels: { release: '2' } });
    expect((await look([now], { steps, previous: RAN })).answer).toBe('bad');
    expect((await look([now], { steps })).answer).toBe('good');
  });
});

describe('a look', () => {
  it('probes guests that are awake, and wakes none', async () => {
    const vms = [vmOf('running'), vmOf('suspended', { name: 'db' }), vmOf('paused', { name: 'old' })];
    expect(await look(vms, { checks: [PROBE] })).toMatchObject({ answer: 'good', asked: ['vm.list h1', 'probe web'] });
    const deaf = { probe: async (): Promise<Observation> => ({ answer: 'failure', detail: 'port 22 is closed' }) };
    expect(await look(vms, { checks: [PROBE] }, deaf)).toMatchObject({ answer: 'bad', why: 'port 22 is closed' });
    // Nothing could answer there.
    expect((await look([vmOf('crashed')], { checks: [PROBE] })).answer).toBe('bad');
  });

  it('asks a webhook about the host as its health does, whichever side it is on', async () => {
    const checks: Check[] = [{ kind: 'webhook', url: 'https://metrics.example.org/' }];
    expect((await look([], { checks })).asked).toEqual(['webhook {"rollout":"r1","host":"h1"}']);
    const says = (answer: Observation['answer']) => ({ webhook: async () => ({ answer, detail: 'so it is' }) });
    expect(await look([], { checks }, says('failure'))).toMatchObject({ answer: 'bad', why: 'so it is' });
    expect((await look([], { checks }, says('inconclusive'))).answer).toBe('untold');
  });

  it.each([
    ['does not answer in time', new FairleadError('TIMEOUT', 'no answer'), 'bad'],
    ['loses its line', new FairleadError('INTERRUPTED', 'the line broke'), 'bad'],
    ['refuses', new FairleadError('PERMISSION_DENIED', 'not for you'), 'untold'],
    ['says what nobody understands', new FairleadError('PROTOCOL_ERROR', 'what?'), 'untold'],
  ])('at one that %s is that', async (_what, error, answer) => {
    expect(await look(error)).toMatchObject({ answer, why: expect.stringContaining(error.code) });
  });

  it('at one without a line asks nothing', async () => {
    expect(await look([], {}, { isUp: () => false })).toEqual({ answer: 'bad', why: 'has no line', asked: [] });
  });

  it('has its time for all questions to a host together', async () => {
    let nowMs = 0;
    const left: number[] = [];
    const slow: Partial<Actuator> = {
      probe: async (_host, { timeoutMs }) => {
        left.push(timeoutMs);
        nowMs += 400;
        return { answer: 'success', detail: '' };
      },
    };
    const vms = ['a', 'b', 'c', 'd', 'e'].map((name) => vmOf('running', { name }));
    const seen = await look(vms, { checks: [PROBE], now: () => nowMs }, slow);
    expect(left).toEqual([1000, 600, 200]);
    expect(seen).toMatchObject({ answer: 'bad', why: expect.stringContaining('within 1000 ms') });
  });

  it('rejects when it is aborted, and only then', async () => {
    const controller = new AbortController();
    controller.abort(new Error('the driver stops'));
    await expect(look(new Error('whatever'), { signal: controller.signal })).rejects.toThrow('the driver stops');
  });
});

describe('a round of a gate', () => {
  const names = (prefix: string, count: number) => Array.from({ length: count }, (_, index) => `${prefix}${index}`);
  const roundOf = (checks: object[], actuator: Actuator, more: Partial<GateRound> = {}): GateRound => {
    const { health, steps, waves } = specOf({
      health: { checks: [{ kind: 'vm-state' }] },
      // SAFETY: the schema reads them.
      waves: [{ hosts: 1, gate: { checks: checks as never } }, { hosts: 1 }],
    });
    const rules = waves[0]?.gate;
    if (rules === undefined) throw new Error('no gate');
    return {
      rollout: 'r1',
      wave: 0,
      rules,
      health,
      steps,
      figures: { hosts: 200 },
      groups: { changed: names('c', 100), control: names('u', 100) },
      unsettled: undefined,
      previousOf: () => [],
      sinceMs: SINCE_MS,
      actuator,
      now: () => 0,
      signal: new AbortController().signal,
      ...more,
    };
  };

  it('asks the same of as many hosts a side as was said, both sides in turn, and not all at once', async () => {
    let running = 0;
    let most = 0;
    const hosts: string[] = [];
    const { actuator } = playedHosts([], {
      ask: async (host) => {
        hosts.push(host);
        running += 1;
        most = Math.max(most, running);
        await new Promise(setImmediate);
        running -= 1;
        return { vms: [vmOf(host === 'c3' ? 'crashed' : 'running')] };
      },
    });
    const { answer, detail } = await askGate(roundOf([{ kind: 'control', hosts: 40, maxExcess: '0%' }], actuator));
    expect([answer, detail]).toEqual(['failure', '1 of 40 changed and 0 of 40 unchanged hosts are bad: c3 VM web is crashed']);
    expect(hosts.slice(0, 4)).toEqual(['c0', 'u0', 'c1', 'u1']);
    expect([hosts.length, most]).toEqual([80, 20]);
  });

  it('tells webhooks both groups, and takes the first answer that is not good', async () => {
    const bodies: unknown[] = [];
    const { actuator, asked } = playedHosts([vmOf('running')], {
      webhook: async (_url, body) => {
        bodies.push(body);
        return { answer: 'failure', detail: 'too slow' };
      },
    });
    const webhook = { kind: 'webhook', url: 'https://metrics.example.org/' };
    expect(await askGate(roundOf([webhook, { kind: 'control' }], actuator))).toEqual({ answer: 'failure', detail: 'too slow' });
    expect(bodies).toEqual([{ rollout: 'r1', wave: 0, hosts: 200, changed: names('c', 100), control: names('u', 100) }]);
    expect(asked).toEqual([]);
  });

  it('compares nothing while hosts are coming back to a hub that was started anew', async () => {
    const { actuator, asked } = playedHosts([vmOf('crashed')]);
    const unsettled = 'hosts are coming back';
    expect(await askGate(roundOf([{ kind: 'control' }], actuator, { unsettled }))).toEqual({
      answer: 'inconclusive',
      detail: unsettled,
    });
    expect(asked).toEqual([]);
  });
});
