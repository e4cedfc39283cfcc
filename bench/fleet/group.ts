/**
 * A fleet on one hub: what a host costs the hub's memory, how soon all are there, and again after a hub that was killed. Hosts are real
 * agents on VMs that are played (agent/sim/), in other processes; the hub's data are files. `FLEET_HOSTS` says how many, 10,000 by default.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { SimFleet } from '../../agent/sim/crew.ts';
import { SimScript } from '../../agent/sim/script.ts';
import { connectHub } from '../../cli/connection.ts';
import { parseWith } from '../../shared/protocol/parse-with.ts';
import type { Contenders, Contest, Figure, Figures } from '../contest.ts';
import type { Group } from '../main.ts';
import type { Promised } from '../measure.ts';
import { type Program, startProgram } from '../programs.ts';
import { hostOperations } from './operations.ts';
import type { FleetHub, FleetHubFigures, FleetHubReady } from './programs/hub.ts';
import { ReadinessWatch } from './readiness-watch.ts';
import { rolloutFigures } from './rollouts.ts';

const HOSTS = Number(process.env['FLEET_HOSTS'] ?? 10_000);
const HOSTS_A_PROCESS = 2_500;
const ENTRY = fileURLToPath(new URL('../../bin/fairlead.ts', import.meta.url));
const KIB = 1024;
/** How long the hub is away. */
const AWAY_MS = 5_000;
const PATIENCE_MS = 300_000;

const absolute = (direction: Promised['direction'], limit: number): Promised => ({ direction, kind: 'absolute', limit });

const FIGURES: readonly Figure[] = [
  { name: 'first connection of all, keys and enrolment included', key: 'storm', unit: 's' },
  { name: "hub's memory for each host", key: 'memory', unit: 'KiB', promise: absolute('at-most', 32) },
  { name: "hub's heap for each host", key: 'heap', unit: 'KiB' },
  { name: "hub's memory for each host, before V8 gives back", key: 'resident', unit: 'KiB' },
  {
    name: `all back after a hub that was away ${AWAY_MS / 1000} s`,
    key: 'back',
    unit: 's',
    promise: absolute('at-most', 30),
  },
  { name: 'hosts let in within the busiest second', key: 'busiest', unit: '1/s', promise: absolute('at-most', 2_000) },
  { name: 'wrong answers of /readyz', key: 'readyzWrong', unit: '', promise: absolute('at-most', 0) },
  { name: '/readyz p99', key: 'readyzMs', unit: 'ms' },
  { name: 'wrong answers of /readyz where hosts queue', key: 'queuedReadyzWrong', unit: '' },
  { name: '/readyz where hosts queue, p99', key: 'queuedReadyzMs', unit: 'ms' },
  { name: 'commands of one operator, one for each host', key: 'operations', unit: '1/s' },
  { name: 'events of these told to 10 watchers', key: 'fanOut', unit: '1/s' },
  { name: 'plan of a rollout over all', key: 'planMs', unit: 'ms', promise: absolute('at-most', 1_000) },
  { name: 'rollout, hosts changed', key: 'hostsPerSecond', unit: '1/s', promise: absolute('at-least', 2_000) },
  { name: 'last host started after a pause was answered', key: 'pauseMs', unit: 'ms', promise: absolute('at-most', 250) },
];

export async function fleetGroup(): Promise<Group> {
  return {
    measurements: [{ name: `${HOSTS} hosts`, figures: FIGURES, prepare } satisfies Contest],
    [Symbol.asyncDispose]: async () => {},
  };
}

async function prepare(): Promise<Contenders> {
  const directory = await mkdtemp(join(tmpdir(), 'flb-'));
  return {
    bouts: { ours: () => ours(directory), baseline: bareMemory },
    [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }),
  };
}

async function ours(parent: string): Promise<Figures> {
  await using scope = new AsyncDisposableStack();
  const directory = await mkdtemp(join(parent, 'run-'));
  const dataDir = join(directory, 'hub');
  const first = await startHub({ dataDir, port: 0, healthPort: 0, hosts: HOSTS });
  const hubs = scope.adopt({ program: first.program }, ({ program }) => program[Symbol.asyncDispose]());
  const { port, url, healthPort, healthUrl, adminToken } = first.ready;
  const base = await figuresOf(first.program);
  const readiness = scope.use(new ReadinessWatch(healthUrl));
  const queuedReadiness = scope.use(new ReadinessWatch(url));

  const startedAt = performance.now();
  const fleet = scope.use(
    await SimFleet.start({
      hosts: HOSTS,
      processes: Math.max(2, Math.ceil(HOSTS / HOSTS_A_PROCESS)),
      prefix: 'sim',
      access: { hub: url.replace('http', 'ws'), token: first.ready.enrolToken, insecure: false },
      script: parseWith(SimScript, {}, 'script'),
      directory: join(directory, 'hosts'),
      entry: ENTRY,
    }),
  );
  const allUp = () => fleet.until(({ up }) => up === HOSTS, AbortSignal.timeout(PATIENCE_MS));
  await allUp();
  const storm = (performance.now() - startedAt) / 1000;
  await sleep(AWAY_MS);
  const connected = await figuresOf(first.program);
  const operations = await hostOperations({ url, adminToken, hosts: HOSTS });
  const operator = scope.use(await connectHub({ hub: url, token: adminToken }, { timeoutMs: PATIENCE_MS, lasting: true }));
  const rollout = await rolloutFigures(operator, HOSTS);

  for (const watch of [readiness, queuedReadiness]) watch.expectAbsence();
  process.kill(first.program.pid, 'SIGKILL');
  await fleet.until(({ up }) => up === 0, AbortSignal.timeout(PATIENCE_MS));
  await sleep(AWAY_MS);
  const second = await startHub({ dataDir, port, healthPort, hosts: 1 });
  hubs.program = second.program;
  for (const watch of [readiness, queuedReadiness]) watch.expectPresence();
  const backAt = performance.now();
  await allUp();
  const back = (performance.now() - backAt) / 1000;
  const returned = await figuresOf(second.program);
  return {
    storm,
    memory: (connected.rssBytes - base.rssBytes) / HOSTS / KIB,
    resident: (connected.residentBytes - base.rssBytes) / HOSTS / KIB,
    heap: (connected.heapBytes - base.heapBytes) / HOSTS / KIB,
    back,
    busiest: Math.max(connected.busiestSecond, returned.busiestSecond),
    readyzWrong: readiness.wrong,
    readyzMs: readiness.p99Ms,
    queuedReadyzWrong: queuedReadiness.wrong,
    queuedReadyzMs: queuedReadiness.p99Ms,
    ...operations,
    ...rollout,
  };
}

/** What the same number of bare connections costs a bare server. */
async function bareMemory(): Promise<Figures> {
  await using hub = await startProgram('fleet/programs/bare-hub.ts');
  // SAFETY: what bare-hub.ts says.
  const { port } = hub.ready as { port: number };
  const rss = async (): Promise<number> => {
    hub.send({});
    // SAFETY: as above.
    return ((await hub.next()) as { rssBytes: number }).rssBytes;
  };
  const base = await rss();
  await using _hosts = await startProgram('fleet/programs/bare-hosts.ts', { port, hosts: HOSTS });
  return { memory: ((await rss()) - base) / HOSTS / KIB };
}

async function startHub(options: FleetHub): Promise<{ program: Program; ready: FleetHubReady }> {
  const program = await startProgram('fleet/programs/hub.ts', options);
  // SAFETY: what hub.ts says when it is ready.
  return { program, ready: program.ready as unknown as FleetHubReady };
}

async function figuresOf(hub: Program): Promise<FleetHubFigures> {
  hub.send({});
  // SAFETY: what hub.ts answers.
  return (await hub.next()) as unknown as FleetHubFigures;
}
