/** The agent as a process: what it weighs and how soon it is there. The promises are absolute; a bare Node with `ws` stands beside them. */
import type { ChildProcess } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Measurement, Sides } from '../measure.ts';
import { endProcess, startProgram } from '../programs.ts';
import { agentPlace, connectedOrEnded, spawnAgent, spawnNode, startHub } from './fixture.ts';

const BARE_AGENT = fileURLToPath(new URL('programs/bare-agent.mjs', import.meta.url));
/** After the connection the agent loads its HTTP endpoint, and V8 gives back what starting took; then memory is looked at some times. */
const SETTLE_MS = 3_000;
const LOOK_EVERY_MS = 200;
const LOOKS = 5;

export function agentMemory(directory: string): Measurement {
  return {
    name: 'agent memory',
    unit: 'MB',
    direction: 'at-most',
    kind: 'absolute',
    limit: 80,
    prepare: () => prepare(directory, ({ child }) => greatestResident(child)),
  };
}

export function agentConnect(directory: string): Measurement {
  return {
    name: 'agent start to connected',
    unit: 'ms',
    direction: 'at-most',
    kind: 'absolute',
    limit: 500,
    prepare: () => prepare(directory, async ({ connectedMs }) => connectedMs),
  };
}

interface Connected {
  readonly child: ChildProcess;
  /** From before the spawn to the other end's word that the connection serves. */
  readonly connectedMs: number;
}

async function prepare(parent: string, figureOf: (connected: Connected) => Promise<number>): Promise<Sides> {
  await using scope = new AsyncDisposableStack();
  const hub = await startHub(scope, parent);
  const place = await agentPlace(parent, hub);
  const relay = scope.use(await startProgram('line/programs/relay-hub.ts'));
  const relayUrl = `ws://127.0.0.1:${String(relay.ready['port'])}/agent`;
  const bareLog = join(place.directory, 'bare.log');
  const running = new Set<ChildProcess>();
  scope.defer(async () => void (await Promise.all([...running].map(endProcess))));

  const run = async (spawn: () => Promise<ChildProcess>, connected: () => Promise<unknown>, log: string): Promise<number> => {
    const before = performance.now();
    const child = await spawn();
    running.add(child);
    await connectedOrEnded(connected(), child, log);
    const connectedMs = performance.now() - before;
    const figure = await figureOf({ child, connectedMs });
    await endProcess(child);
    running.delete(child);
    return figure;
  };
  const ours = () => run(() => spawnAgent(place), hub.connected, place.logFile);
  const baseline = () => run(() => spawnNode([BARE_AGENT, relayUrl], bareLog), relay.next, bareLog);
  // The first start makes the key and enrols.
  await ours();
  await baseline();
  const all = scope.move();
  return { ours, baseline, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

/** Resident memory at rest in MB (10^6 bytes), the most that was seen. */
async function greatestResident(child: ChildProcess): Promise<number> {
  const seen: number[] = [];
  await sleep(SETTLE_MS);
  for (let look = 0; look < LOOKS; look++) {
    await sleep(LOOK_EVERY_MS);
    const status = await readFile(`/proc/${child.pid}/status`, 'utf8');
    seen.push((Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024) / 1e6);
  }
  return Math.max(...seen);
}
