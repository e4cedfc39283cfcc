/** The rollout engine over the whole fleet: how soon it has a plan, how many hosts it changes in a second, how soon it stops. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { HubConnection } from '../../cli/connection.ts';
import { OUTCOMES } from '../../shared/protocol/rollout-events.ts';
import type { RolloutSpecInput } from '../../shared/protocol/rollout-spec.ts';

const LOOK_MS = 50;
/** Hosts under way at once, of the fast one. */
const WINDOW = 2_000;
/** Of the one that is paused: slow enough not to have ended by then. */
const SLICES = 50;
const RUNNING_MS = 300;
/** After a pause: what was under way has ended by then. */
const SETTLED_MS = 2_000;

/** `vm.pause` and back: the least that a host can do, and it is in its journal. */
function specOf(method: 'vm.pause' | 'vm.resume', maxInFlight: number): RolloutSpecInput {
  const params = { vm: 'vm-1' };
  return {
    selector: {},
    steps: [{ kind: 'call', method, params, undo: { method: method === 'vm.pause' ? 'vm.resume' : 'vm.pause', params } }],
    waves: [{ hosts: '100%' }],
    maxInFlight,
    zones: { order: 'concurrent', maxInFlight: 1_000 },
    budget: { maxUnavailable: '100%', perZone: '100%' },
    thresholds: [{ max: '100%' }],
  };
}

export interface RolloutFigures {
  readonly planMs: number;
  readonly hostsPerSecond: number;
  /** From the answer to `rollout.pause` to the last host that was started; 0 where none was after it. */
  readonly pauseMs: number;
}

export async function rolloutFigures(operator: HubConnection, hosts: number): Promise<RolloutFigures> {
  const plannedAt = performance.now();
  await operator.call('rollout.plan', { spec: specOf('vm.pause', WINDOW) });
  const planMs = performance.now() - plannedAt;
  const startedAt = performance.now();
  await operator.call('rollout.start', { rollout: 'forth', spec: specOf('vm.pause', WINDOW) });
  await untilEnded(operator, 'forth');
  const hostsPerSecond = hosts / ((performance.now() - startedAt) / 1000);
  return { planMs, hostsPerSecond, pauseMs: await pauseLatency(operator, hosts) };
}

async function pauseLatency(operator: HubConnection, hosts: number): Promise<number> {
  const rollout = 'back';
  await operator.call('rollout.start', { rollout, spec: specOf('vm.resume', Math.max(1, Math.floor(hosts / SLICES))) });
  await sleep(RUNNING_MS);
  await operator.call('rollout.pause', { rollout, reason: 'bench' });
  const answeredAt = Date.now();
  await sleep(SETTLED_MS);
  let lastStart = 0;
  for (let since = 0; ; ) {
    const { events } = await operator.call('rollout.events', { rollout, since, limit: 1000 });
    for (const { at, fact } of events) if (fact.type === 'host-started') lastStart = Math.max(lastStart, Date.parse(at));
    const last = events.at(-1);
    if (last === undefined) break;
    since = last.seq;
  }
  await operator.call('rollout.abort', { rollout, reason: 'bench' });
  await untilEnded(operator, rollout);
  return Math.max(0, lastStart - answeredAt);
}

async function untilEnded(operator: HubConnection, rollout: string): Promise<void> {
  const ended: ReadonlySet<string> = new Set(OUTCOMES);
  for (;;) {
    const { status } = await operator.call('rollout.get', { rollout });
    if (ended.has(status)) return;
    if (status === 'paused') throw new Error(`rollout ${rollout} has paused by itself`);
    await sleep(LOOK_MS);
  }
}
