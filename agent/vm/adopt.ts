/**
 * After a restart of the agent: each VM that was left running is taken over as it is, or found dead and told so.
 *
 *     record says                     and there is                          then
 *     at rest                                                               nothing to do
 *     running or starting, a process  that process (pid, start time, boot,  its QMP is connected anew; it counts as running meanwhile
 *                                     our uuid in its arguments)
 *     starting, still in `prelaunch`                                        it is ended: nobody was told that it started
 *     starting, no process yet        a process with our uuid               it is ended, likewise
 *     running or starting             none of these                         crashed, or at rest if it was starting
 *
 * Events of the time between are lost, so the state is asked for. A QEMU that does not answer is kept and asked again (session.ts).
 */
import { readdirSync, readFileSync } from 'node:fs';
import { toFairleadError } from '../../shared/errors.ts';
import type { VmExit } from '../../shared/protocol/vm.ts';
import { identityOf, isAlive, type ProcessIdentity, processExit, signalProcess } from '../process-identity.ts';
import type { VsockDevice } from '../streams/transport.ts';
import { settledWithin } from './deadline.ts';
import { tailOf } from './logs/log-file.ts';
import { Session } from './session.ts';
import { adoptedProcess } from './spawn.ts';
import type { ProcessRecord } from './store.ts';
import type { Supervisor, SupervisorContext } from './supervisor.ts';

/** How long the agent's own start waits for the first answer of a QEMU. */
const FIRST_ANSWER_MS = 2_000;
const KILL_MS = 5_000;

export async function adopt(context: SupervisorContext, supervisor: Supervisor, leaving: AbortSignal): Promise<void> {
  const { record } = supervisor;
  if (record.state !== 'running' && record.state !== 'starting') {
    await context.confinement.leave(supervisor.name);
    await context.store.removeRunDir(supervisor.name);
    return;
  }
  const { process } = record;
  const living = process === undefined ? undefined : livingProcess(process, context.bootId, record.uuid);
  if (living !== undefined && process !== undefined) {
    const isHalfStarted = await takeOver(context, supervisor, process, leaving);
    if (!isHalfStarted) return;
  }
  await endStrays(record.uuid);
  if (record.state === 'starting') return supervisor.foundDead(exitOf(context, supervisor, 'start-failed'), 'stopped');
  const isRebooted = process !== undefined && process.bootId !== context.bootId;
  await supervisor.foundDead(exitOf(context, supervisor, isRebooted ? 'host-restart' : 'lost'), 'crashed');
}

/** True when the process turns out to have never been started all the way. */
async function takeOver(
  context: SupervisorContext,
  supervisor: Supervisor,
  about: ProcessRecord,
  leaving: AbortSignal,
): Promise<boolean> {
  const { name: vm, record } = supervisor;
  const { logger, store } = context;
  context.confinement.adopt(record.spec);
  const device = await adoptDevice(context, vm, about);
  let runState: unknown;
  const process = adoptedProcess({ pid: about.pid, startTime: about.startTime }, leaving);
  const make = (handlers: ConstructorParameters<typeof Session>[0]['handlers']): Session =>
    new Session({
      vm,
      generation: record.generation,
      process,
      device,
      qmpSocket: store.paths(vm).qmpSocket,
      logger,
      observer: context.observer,
      handlers: {
        ...handlers,
        onInput(input, data) {
          runState ??= data['runState'];
          handlers.onInput(input, data);
        },
      },
    });
  const session = supervisor.adopt(make, 'running');
  try {
    await session.connect(FIRST_ANSWER_MS);
  } catch (error) {
    logger.warn({ vm, error: toFairleadError(error).message }, 'QEMU of an adopted VM does not answer yet');
    session.connectAgain();
  }
  if (record.state === 'starting' && runState === 'prelaunch') {
    await session.close();
    await device?.[Symbol.asyncDispose]();
    return true;
  }
  const { readyPort } = record.spec.vsock ?? {};
  if (device !== undefined && readyPort !== undefined) await session.listenForReady(readyPort);
  logger.info({ vm, pid: about.pid, state: supervisor.state }, 'adopted a VM');
  return false;
}

async function adoptDevice(
  { vsock, store, logger }: SupervisorContext,
  vm: string,
  about: ProcessRecord,
): Promise<VsockDevice | undefined> {
  if (about.vsock === undefined) return undefined;
  const { daemon, ...rest } = about.vsock;
  const state = daemon === undefined ? rest : { ...rest, daemon };
  try {
    if (!vsock.available) throw new Error(vsock.reason);
    if (vsock.transport.kind !== state.kind)
      throw new Error(`it is of ${state.kind} and this agent uses ${vsock.transport.kind}`);
    return await vsock.transport.adopt({ vm, runDir: store.paths(vm).runDir, state });
  } catch (error) {
    logger.warn({ vm, error: toFairleadError(error).message }, 'could not adopt the vsock device of a VM');
    return undefined;
  }
}

function livingProcess({ pid, startTime, bootId }: ProcessRecord, bootIdNow: string, uuid: string): ProcessIdentity | undefined {
  const identity = { pid, startTime };
  return bootId === bootIdNow && isAlive(identity) && hasUuid(pid, uuid) ? identity : undefined;
}

/** Processes that were spawned for this VM by an agent that died before it could write that down. */
async function endStrays(uuid: string): Promise<void> {
  const pids = readdirSync('/proc').filter((entry) => /^\d+$/.test(entry));
  const strays = pids.map(Number).filter((pid) => hasUuid(pid, uuid));
  for (const identity of strays.map(identityOf)) {
    if (identity === undefined) continue;
    signalProcess(identity, 'SIGKILL');
    await settledWithin(processExit(identity), KILL_MS);
  }
}

function hasUuid(pid: number, uuid: string): boolean {
  try {
    const args = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
    return args[args.indexOf('-uuid') + 1] === uuid && args.includes('-uuid');
  } catch {
    // It ended meanwhile.
    return false;
  }
}

function exitOf({ store }: SupervisorContext, { name, record }: Supervisor, reason: string): VmExit {
  const stderrTail = tailOf(store.paths(name).qemuLog, { from: record.process?.logOffset ?? 0 });
  return { at: new Date().toISOString(), reason, code: null, signal: null, stderrTail };
}
