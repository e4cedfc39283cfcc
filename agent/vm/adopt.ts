/**
 * After a restart of the agent: each VM that was left running is taken over as it is, or found dead and told so.
 *
 *     record says                         and there is                          then
 *     at rest                             a process with our uuid               it is ended: nobody knows of it
 *     running, stopping or starting       that process (pid, start time, boot,  it is taken over; a stop is finished (supervisor.ts)
 *                                         our uuid in its arguments)
 *     suspending or resuming              that process                          it is taken over, and goes on (snapshot/sleeper.ts)
 *     suspended                           whatever                              a process is ended; the guest stays as it was left
 *     starting, and the guest never ran   that process, or one with our uuid    it is ended: nobody was told that it started
 *     running, stopping or starting       none of these                         stopped or crashed, by what it said of its end; a
 *                                                                               start that had not come to its end is `stopped`
 *
 * What happened while no agent was there is read from the trail (trail.ts) and told late, with its time. So the state is known without
 * asking QEMU; it is asked all the same, since a trail can be cut. A QEMU that does not answer is kept and asked again (session.ts).
 */
import { toFairleadError } from '../../shared/errors.ts';
import type { VmState } from '../../shared/protocol/vm.ts';
import { isAlive, type ProcessIdentity } from '../process-identity.ts';
import type { VsockDevice } from '../streams/transport.ts';
import { releaseHostDevices } from './host/host-devices.ts';
import type { LifeContext, VmLife } from './life.ts';
import { GUEST_STATES, REST_STATES, transition } from './machine.ts';
import { millisecondsOf, QemuEventReader } from './qemu-events.ts';
import { Session } from './session.ts';
import { adoptedProcess } from './spawn.ts';
import type { ProcessRecord } from './store.ts';
import { argumentsOf, hasUuid, type StrayProcesses } from './strays.ts';
import { readTrail, shutdownReasonOf, type Trail } from './trail.ts';

export interface Adoption {
  readonly strays: StrayProcesses;
  /** Fires when the agent goes away again. */
  readonly leaving: AbortSignal;
}

/** How long commands wait for the first answer of a QEMU. */
const FIRST_ANSWER_MS = 2_000;

/** Settles when the VM's state is known and its QEMU has answered or is asked in the background. */
export async function adopt(context: LifeContext, life: VmLife, { strays, leaving }: Adoption): Promise<void> {
  const { record, name } = life;
  const paths = context.store.paths(name);
  const owner = { uuid: record.uuid, monitorSocket: paths.monitorSocket, runDir: paths.runDir };
  if (record.state === 'suspended' || (record.process === undefined && REST_STATES.includes(record.state))) {
    await strays.end(owner);
    const { suspension } = record;
    if (suspension !== undefined && suspension.durability !== 'host' && suspension.bootId !== context.bootId) {
      return life.foundDead({ shutdownReason: undefined, otherwise: 'host-restart', at: new Date() });
    }
    await releaseHostDevices(name, paths, { logger: context.logger, keepsRam: suspension !== undefined });
    await context.confinement.leave(name);
    await context.store.removeRunDir(name);
    if (record.process !== undefined) life.saveLater({ process: undefined });
    return;
  }
  const trail = readTrail(paths.trail);
  const { process } = record;
  const hasRun = record.state !== 'starting' || trail.events.some(({ name }) => name === 'RESUME');
  if (hasRun && process !== undefined && (await isOurs(process, context.bootId, record.uuid))) {
    return takeOver(context, life, { process, trail, leaving });
  }
  await strays.end(owner);
  const isRebooted = process !== undefined && process.bootId !== context.bootId;
  const last = trail.events.at(-1);
  const shutdownReason = shutdownReasonOf(trail);
  const at = last === undefined || shutdownReason === undefined ? new Date() : new Date(millisecondsOf(last));
  const unheard = context.confinement.wasOutOfMemory(name) ? 'out-of-memory' : 'lost';
  await life.foundDead({ shutdownReason, otherwise: isRebooted ? 'host-restart' : unheard, at });
}

async function takeOver(
  context: LifeContext,
  life: VmLife,
  { process: about, trail, leaving }: { process: ProcessRecord; trail: Trail; leaving: AbortSignal },
): Promise<void> {
  const { name: vm, record } = life;
  const { logger, store, observer, guestPorts } = context;
  context.confinement.adopt(record.spec);
  const device = await adoptDevice(context, vm, about);
  const { qmpSocket, trail: trailPath } = store.paths(vm);
  const known = lastKnown(context, life, trail);
  const session = new Session({
    vm,
    generation: record.generation,
    process: adoptedProcess({ pid: about.pid, startTime: about.startTime }, leaving),
    device,
    qmpSocket,
    trail: trailPath,
    heardUntilMs: known.untilMs,
    logger,
    observer,
    guestPorts,
    handlers: life.handlers(),
  });
  life.own(session, known.state);
  session.catchUp();
  if (record.state === 'starting') life.saveLater({ state: 'running' });
  const { readyPort } = record.spec.vsock ?? {};
  await session.listenToGuest(readyPort);
  logger.info({ vm, pid: about.pid, state: life.state }, 'adopted a VM');
  try {
    await session.connect(FIRST_ANSWER_MS);
  } catch (error) {
    if (leaving.aborted) return;
    logger.warn({ vm, error: toFairleadError(error).message }, 'QEMU of an adopted VM does not answer yet');
    session.connectAgain();
  }
}

/**
 * The state up to the last event that was told of this VM, and when that was: what the trail has after it is still to be told. An event
 * that is told late has its own time, so nothing is told twice.
 */
function lastKnown({ events }: LifeContext, life: VmLife, trail: Trail): { state: VmState; untilMs: number } {
  const told = events.lastOf(life.name);
  const untilMs = told === undefined ? Date.now() : Date.parse(told.time) + 1;
  // Asked for by us, so no event of QEMU says so.
  if (life.record.stop !== undefined) return { state: 'stopping', untilMs };
  // QEMU says nothing of the sleep either; whether its CPUs run is not its state meanwhile.
  if (life.record.state === 'suspending' || life.record.state === 'resuming') return { state: life.record.state, untilMs };
  const wasThere = told !== undefined && GUEST_STATES.includes(told.state);
  if (!trail.isWhole) return { state: wasThere ? told.state : 'running', untilMs };
  const reader = new QemuEventReader();
  let state: VmState = 'starting';
  for (const event of trail.events) {
    const word = reader.read(event);
    if (millisecondsOf(event) <= untilMs && word?.kind === 'input') state = transition(state, word.input)?.state ?? state;
  }
  return { state, untilMs };
}

async function adoptDevice(
  { vsock, store, logger }: LifeContext,
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

async function isOurs({ pid, startTime, bootId }: ProcessRecord, bootIdNow: string, uuid: string): Promise<boolean> {
  const identity: ProcessIdentity = { pid, startTime };
  return bootId === bootIdNow && isAlive(identity) && hasUuid(await argumentsOf(pid), uuid);
}
