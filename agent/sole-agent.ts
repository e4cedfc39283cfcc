/**
 * One agent for a state directory: two would write one journal, and each would take the other's VMs for its own.
 *
 *     STATE/agent.json     who it is: pid, start time and boot, so that one that was killed is known to be gone
 *
 * The file is taken by a link, which succeeds for one alone; that of a dead agent is moved aside first, and put back where somebody living
 * had it by then. An agent that is about to leave, as at an upgrade, is waited for. Programs of other PID namespaces are not seen.
 */
import { randomUUID } from 'node:crypto';
import { link, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { FairleadError } from '../shared/errors.ts';
import { identityOf, isAlive, processExit } from './process-identity.ts';
import { settledWithin } from './vm/deadline.ts';
import { readBootId } from './vm/host/host-info.ts';

const Holder = v.object({ pid: v.number(), startTime: v.string(), bootId: v.string() });
type Holder = v.InferOutput<typeof Holder>;

const LEAVE_MS = 10_000;
const ATTEMPTS = 5;

/** Held until disposed of, or the process ends. @throws FairleadError CONFLICT, or what the file system throws */
export async function becomeSoleAgent(stateDir: string, leaveMs = LEAVE_MS): Promise<AsyncDisposable> {
  const path = join(stateDir, 'agent.json');
  const own = `${path}.${randomUUID()}`;
  const identity = identityOf(process.pid);
  await writeFile(own, JSON.stringify({ ...identity, bootId: readBootId() }), { mode: 0o600 });
  try {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      if (await isLinked(own, path)) return { [Symbol.asyncDispose]: () => rm(path, { force: true }) };
      const holder = await livingHolder(path);
      if (holder === undefined) await moveAside(path, `${own}.before`);
      else if (holder.pid === process.pid || !(await hasLeft(holder, leaveMs))) throw conflict(stateDir, holder);
    }
    throw new FairleadError('CONFLICT', `other agents start with the state directory ${stateDir} in this very moment`);
  } finally {
    await rm(own, { force: true });
  }
}

/** False where the name is taken. */
async function isLinked(own: string, path: string): Promise<boolean> {
  try {
    await link(own, path);
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false;
    throw error;
  }
}

/** What cannot be read is what a host that stopped has left. */
async function livingHolder(path: string): Promise<Holder | undefined> {
  const text = await readFile(path, 'utf8').catch(() => '');
  const holder = v.safeParse(v.pipe(v.string(), v.parseJson(), Holder), text);
  return holder.success && holder.output.bootId === readBootId() && isAlive(holder.output) ? holder.output : undefined;
}

async function moveAside(path: string, aside: string): Promise<void> {
  try {
    await rename(path, aside);
    // Another one was quicker, and has taken the name meanwhile.
    if ((await livingHolder(aside)) !== undefined) await isLinked(aside, path);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
  } finally {
    await rm(aside, { force: true });
  }
}

async function hasLeft(holder: Holder, leaveMs: number): Promise<boolean> {
  await settledWithin(processExit(holder), leaveMs);
  return !isAlive(holder);
}

function conflict(stateDir: string, { pid }: Holder): FairleadError {
  const todo = 'stop that one, or give this one a state directory of its own';
  return new FairleadError('CONFLICT', `an agent (pid ${pid}) runs with the state directory ${stateDir} already: ${todo}`);
}
