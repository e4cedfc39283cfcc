/**
 * The start of one VM, from a record to a guest that runs:
 *
 *     vsock device, directory, record `starting` (side by side) → spawn → record of the process, QMP session, ready listener
 *     (side by side) → `cont`
 *
 * A guest that goes on from where it was saved is loaded between the two (snapshot/incoming.ts).
 *
 * Whatever fails or is cancelled on the way, everything is given back in reverse: the process is gone, its sockets and its vsock device
 * too, before the error is told. A QEMU that ends by itself meanwhile is noticed at once, and its last words are in the error.
 */
import { FairleadError, toFairleadError } from '../../shared/errors.ts';
import type { VmSpec } from '../../shared/protocol/vm-spec.ts';
import { failpoint } from '../failpoint.ts';
import { QmpClient } from '../qmp/client.ts';
import { runCommand } from '../qmp/commands.ts';
import type { VsockDevice } from '../streams/transport.ts';
import type { HostVsock, Logger, VmObserver, VmPolicy } from './api.ts';
import { buildArgs } from './argv/build-args.ts';
import type { HostDevices } from './argv/host.ts';
import type { Confinement } from './confinement/confinement.ts';
import type { ProcessGuard } from './confinement/guarded-spawn.ts';
import { makeConsolePipes } from './console/console-pipes.ts';
import { type Deadline, orAborted, settleAll, settledWithin } from './deadline.ts';
import type { GuestPorts } from './guest-ports/guest-ports.ts';
import { type HostDevicesRequest, prepareHostDevices, releaseHostDevices } from './host/host-devices.ts';
import type { HostProbe } from './host/host-probe.ts';
import { sizeOf, tailOf } from './logs/log-file.ts';
import { Session, type SessionHandlers } from './session.ts';
import type { Incoming } from './snapshot/incoming.ts';
import { type ProcessExit, type QemuProcess, spawnQemu } from './spawn.ts';
import type { ProcessRecord, VmPaths, VmRecord, VmStore } from './store.ts';

export interface LaunchContext {
  readonly store: VmStore;
  readonly probe: HostProbe;
  readonly confinement: Confinement;
  readonly vsock: HostVsock;
  readonly bootId: string;
  readonly observer?: VmObserver | undefined;
  readonly checkSpec?: VmPolicy['checkSpec'];
  readonly tscKhz: number | undefined;
  readonly guestPorts: GuestPorts;
  readonly logger: Logger;
}

export interface LaunchRequest {
  /** The record of before, at rest. */
  readonly record: VmRecord;
  /** Changes the record and makes it durable. */
  readonly save: (change: Partial<VmRecord>) => Promise<void>;
  readonly handlers: SessionHandlers;
  readonly deadline: Deadline;
  readonly incoming?: Incoming | undefined;
}

/** How long a process that broke its QMP connection is given to end, so that the reason can be told instead of the symptom. */
const LAST_WORDS_MS = 500;

/**
 * @throws FairleadError PROCESS_FAILED when QEMU cannot be run or ends while it starts, UNSUPPORTED for what this host cannot do, what QMP
 * throws, or the deadline's reason.
 */
export async function launch(context: LaunchContext, request: LaunchRequest): Promise<Session> {
  const { store, logger } = context;
  const { record, save, deadline, handlers, incoming } = request;
  const { name } = record.spec;
  const { signal } = deadline;
  const paths = store.paths(name);
  const generation = record.generation + 1;

  await failpoint('start.begun');
  await using undo = new AsyncDisposableStack();
  undo.defer(() => store.removeRunDir(name));
  await Promise.all([store.makeRunDir(name), makeConsolePipes(paths)]);
  const guard = await context.confinement.enter(record.spec, paths);
  undo.defer(() => context.confinement.leave(name));
  const facts = incoming?.facts;
  const keepsRam = incoming !== undefined && incoming.ram.kind !== 'fresh';
  const privateRam = incoming?.ram.kind === 'private' ? incoming.ram.file : undefined;
  undo.defer(() => releaseHostDevices(name, paths, { logger, keepsRam }));
  const plugged = incoming?.vsock;
  const [qemu, accelerator, machine, devices, device] = await settleAll([
    orAborted(context.probe.qemu(), signal),
    facts?.accelerator ?? orAborted(context.probe.accelerator(record.spec.accelerator), signal),
    orAborted(context.probe.machine(facts?.machine ?? record.spec.machine), signal),
    hostDevices(context, { spec: record.spec, paths, user: guard.user, keepsRam, signal }),
    prepareDevice(context, record, { paths, guard, signal, plugged }).then((made) =>
      made === undefined ? made : undo.use(made),
    ),
    incoming?.commit === undefined ? save({ state: 'starting', generation, ready: false, process: undefined }) : undefined,
  ]);
  signal.throwIfAborted();
  await failpoint('start.recorded');

  const cold = plugged === undefined ? device : undefined;
  const vsock = cold === undefined ? undefined : { cid: cold.cid, backend: cold.backend };
  const { sandbox } = qemu;
  const { tscKhz } = context;
  const host = {
    uuid: record.uuid,
    accelerator,
    machine,
    sandbox,
    tscKhz,
    vsock,
    devices,
    paths,
    ports: facts?.ports,
    privateRam,
  };
  const argv = [...buildArgs(record.spec, host), ...(incoming === undefined ? [] : ['-incoming', 'defer'])];
  const logOffset = sizeOf(paths.qemuLog);
  const vhostFd = cold?.vhostFd;
  const { binary } = qemu;
  const { qmpSocket, qemuLog: logFile, trail: trailFile } = paths;
  const isIncoming = incoming !== undefined;
  const process = await spawnQemu({ binary, argv, qmpSocket, vhostFd, isIncoming, logFile, trailFile, guard });
  undo.defer(() => kill(process));
  cold?.spawned();
  await failpoint('start.spawned');

  const { observer, guestPorts } = context;
  const session = new Session({
    vm: name,
    generation,
    process,
    device,
    qmpSocket,
    trail: trailFile,
    handlers,
    logger,
    observer,
    guestPorts,
  });
  undo.defer(() => session.close());
  const about: ProcessRecord = {
    ...process.identity,
    bootId: context.bootId,
    binary,
    argv,
    accelerator,
    qemuVersion: qemu.version,
    startedAt: new Date().toISOString(),
    logOffset,
    vsock: device?.state,
  };
  const { readyPort } = record.spec.vsock ?? plugged ?? {};
  try {
    await settleAll([
      connect(session, paths, deadline, context),
      incoming?.commit === undefined ? save({ process: about }) : undefined,
      session.listenToGuest(readyPort),
      incoming?.prepare?.(about, generation),
    ]);
    await failpoint('start.process-recorded');
    await incoming?.load(session, deadline);
    // The guest of another VM may have written to an image meanwhile; from here on QEMU's lock keeps it from that.
    await context.checkSpec?.(record.spec);
    // Nothing is used up for one that is no more.
    requireThere(process, name);
    await settleAll([incoming?.commit?.(), incoming?.meanwhile?.(session, deadline)]);
    if (incoming?.after !== 'pause') await letRun(session, signal);
    await failpoint('start.resumed');
    requireThere(process, name);
  } catch (error) {
    signal.throwIfAborted();
    throw (await endedMeanwhile(process, name, paths, logOffset)) ?? error;
  }
  undo.move();
  return session;
}

/** Nothing is made on the host for a spec that its owner does not allow. */
async function hostDevices({ checkSpec }: LaunchContext, request: HostDevicesRequest): Promise<HostDevices> {
  await checkSpec?.(request.spec);
  return prepareHostDevices(request);
}

async function connect(
  session: Session,
  paths: VmPaths,
  { signal, remainingMs }: Deadline,
  { logger, observer }: LaunchContext,
): Promise<void> {
  // A QEMU under load may take its time to its first word; the deadline of the start is the only limit.
  const limits = { connectTimeoutMs: remainingMs, greetingTimeoutMs: remainingMs, signal };
  session.attach(await QmpClient.connect({ path: paths.qmpSocket, logger, observer, ...limits }));
}

/** QEMU tells that the guest runs some milliseconds before it answers the command; the telling is enough. */
async function letRun({ qmp }: Session, signal: AbortSignal): Promise<void> {
  using resumed = qmp.listen({ names: ['RESUME'] });
  const told = resumed.take({ signal });
  const answered = runCommand(qmp, 'cont', {}, { signal });
  for (const one of [told, answered]) one.catch(() => {});
  await Promise.race([told, answered]);
}

/** One that is plugged in later is done without where it cannot be had. */
async function prepareDevice(
  { vsock, logger }: LaunchContext,
  { spec }: VmRecord,
  options: { paths: VmPaths; guard: ProcessGuard; signal: AbortSignal; plugged: VmSpec['vsock'] },
): Promise<VsockDevice | undefined> {
  const { paths, guard, signal, plugged } = options;
  if (spec.vsock === undefined && plugged === undefined) return undefined;
  try {
    if (vsock.available) return await vsock.transport.prepare({ vm: spec.name, runDir: paths.runDir, guard, signal });
    throw new FairleadError('UNSUPPORTED', `VM ${spec.name} wants a vsock and this host has none: ${vsock.reason}`);
  } catch (error) {
    signal.throwIfAborted();
    if (plugged === undefined) throw error;
    logger.error({ vm: spec.name, error: toFairleadError(error).message }, 'could not give a VM its vsock back');
    return undefined;
  }
}

/** @throws FairleadError PROCESS_FAILED */
function requireThere(process: QemuProcess, vm: string): void {
  if (process.hasExited()) throw new FairleadError('PROCESS_FAILED', `QEMU of VM ${vm} ended`);
}

async function kill(process: QemuProcess): Promise<void> {
  process.signal('SIGKILL');
  await process.exited;
}

async function endedMeanwhile(
  process: QemuProcess,
  vm: string,
  { qemuLog }: VmPaths,
  from: number,
): Promise<FairleadError | undefined> {
  if (!(await settledWithin(process.exited, LAST_WORDS_MS))) return undefined;
  const exit = await process.exited;
  const stderrTail = tailOf(qemuLog, { from });
  const words = lastMessage(stderrTail) || 'it said nothing';
  return new FairleadError('PROCESS_FAILED', `QEMU of VM ${vm} ended with ${describeExit(exit)} while it started: ${words}`, {
    details: { vm, exitCode: exit.code, signal: exit.signal, stderrTail },
  });
}

export function describeExit({ code, signal }: ProcessExit): string {
  if (signal !== null) return signal;
  return code === null ? 'an unknown code' : `code ${code}`;
}

/** What `-msg timestamp=on` puts before each message; the lines after it that have none are hints that belong to it. */
const TIMESTAMP = /^\d{4}-\d\d-\d\dT[\d:.]+Z /;

function lastMessage(stderrTail: string): string {
  const lines = stderrTail.trim().split('\n');
  const begin = lines.findLastIndex((line) => TIMESTAMP.test(line));
  return (begin < 0 ? lines.slice(-1) : lines.slice(begin)).join('; ').replace(TIMESTAMP, '');
}
