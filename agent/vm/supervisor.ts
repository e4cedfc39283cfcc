/**
 * One VM: its record, its state (machine.ts), its QEMU process while there is one (session.ts), and the commands on it, which run one
 * after another. VMs share nothing but the event log, so one that hangs holds up nobody else.
 *
 * Upper half (the commands) may be called at any time and throws FairleadError. Lower half (`#on…`) is called by the session, in order,
 * and never throws: what cannot be saved then is logged, and told by the next command.
 */
import { FairleadError, type JsonObject, toFairleadError } from '../../shared/errors.ts';
import type { Result } from '../../shared/protocol/methods.ts';
import type { VmEventType, VmExit, VmInfo, VmState } from '../../shared/protocol/vm.ts';
import { failpoint } from '../failpoint.ts';
import { type QmpCommandName, runCommand } from '../qmp/commands.ts';
import type { CallOptions, OpenedStream, VmLimits } from './api.ts';
import { capabilitiesOf } from './capabilities.ts';
import { CommandQueue } from './command-queue.ts';
import { Deadline } from './deadline.ts';
import type { EventLog } from './events.ts';
import { type LaunchContext, launch } from './launch.ts';
import { type LiveVm, liveVm, type Operation } from './live-vm.ts';
import { tailOf } from './logs/log-file.ts';
import { GUEST_STATES, QMP_STATES, REST_STATES, requireState, transition, type VmInput } from './machine.ts';
import { openStream } from './open-stream.ts';
import type { Session, SessionEnd, SessionHandlers } from './session.ts';
import { checkFiles } from './spec-check.ts';
import { descend, type EndedBy, LADDER_TIMES, type LadderTimes } from './stop-ladder.ts';
import type { VmRecord } from './store.ts';

export interface SupervisorContext extends LaunchContext {
  readonly events: EventLog;
  readonly limits: VmLimits;
  readonly ladderTimes?: LadderTimes | undefined;
}

const START_TIMEOUT_MS = 60_000;
const COMMAND_TIMEOUT_MS = 30_000;
const DEFAULT_GRACE_MS = 10_000;

/** Reasons in QEMU's SHUTDOWN event that nobody wished for. */
const UNWANTED_ENDS: readonly string[] = ['host-error', 'guest-panic'];

export class Supervisor {
  readonly name: string;
  readonly #context: SupervisorContext;
  readonly #queue = new CommandQueue();
  #record: VmRecord;
  #state: VmState;
  #session: Session | undefined;
  /** How the ladder is ending the process; undefined while nobody is. */
  #rung: EndedBy | undefined;
  #deleted = false;
  #saved: Promise<void> = Promise.resolve();
  /** Settles when nothing is left of the last process. */
  #cleaned: Promise<void> = Promise.resolve();

  constructor(context: SupervisorContext, record: VmRecord) {
    this.#context = context;
    this.#record = record;
    this.#state = record.state;
    this.name = record.spec.name;
  }

  get state(): VmState {
    return this.#state;
  }

  get record(): VmRecord {
    return this.#record;
  }

  info(): VmInfo {
    const { uuid, ready, generation, createdAt, exit, spec, process } = this.#record;
    const device = this.#session?.device;
    const info: VmInfo = { name: this.name, uuid, state: this.#state, ready, generation, labels: spec.labels, createdAt, spec };
    if (exit !== undefined) info.exit = exit;
    if (process !== undefined) {
      const { pid, startedAt, accelerator, qemuVersion } = process;
      Object.assign(info, { pid, startedAt, accelerator, qemuVersion });
    }
    if (device !== undefined) info.vsock = { cid: device.cid, transport: device.state.kind, halfClose: device.halfClose };
    return info;
  }

  capabilities(): Result<'vm.capabilities'> {
    return capabilitiesOf(this.#record.spec, this.#context.vsock);
  }

  /** Once, when the VM has been created. */
  announce(): void {
    this.#tell('vm.created', {});
  }

  start(options: CallOptions): Promise<VmInfo> {
    return this.#command('starting', { timeoutMs: START_TIMEOUT_MS, ...options }, async (deadline) => {
      if (this.#state === 'running') return this.info();
      requireState(this.name, this.#state, REST_STATES, 'start');
      await this.#cleaned;
      await checkFiles(this.#record.spec);
      const before = this.#record;
      this.#apply('start');
      try {
        const save = (change: Partial<VmRecord>) => this.#save(change);
        this.#session = await launch(this.#context, { record: before, save, handlers: this.#handlers(), deadline });
      } catch (error) {
        await this.#startFailed(before, toFairleadError(error));
        throw error;
      }
      this.#apply('resume');
      this.#saveLater({ state: 'running' });
      return this.info();
    });
  }

  pause(options: CallOptions): Promise<VmInfo> {
    return this.#command('pausing', options, async (deadline) => {
      requireState(this.name, this.#state, ['running', 'paused'], 'pause');
      if (this.#state === 'running') await this.#pause(deadline);
      this.#apply('pause');
      return this.info();
    });
  }

  resume(options: CallOptions): Promise<VmInfo> {
    return this.#command('resuming', options, async (deadline) => {
      requireState(this.name, this.#state, ['running', 'paused', 'io-error'], 'resume');
      if (this.#state !== 'running') await this.#qmp('cont', deadline);
      this.#apply('resume');
      return this.info();
    });
  }

  /** A guest that had panicked or lost its disk runs again afterwards; one that was paused stays so. */
  reset(options: CallOptions): Promise<VmInfo> {
    return this.#command('resetting', options, async (deadline) => {
      requireState(this.name, this.#state, GUEST_STATES, 'reset');
      const isHalted = this.#state === 'panicked' || this.#state === 'io-error';
      // Ended before, and not only at the event, so that a guest that still lives hears of it.
      const session = this.#requireSession();
      session.resetStreams();
      await session.device?.settle();
      await this.#qmp('system_reset', deadline);
      if (isHalted) {
        await this.#qmp('cont', deadline);
        this.#apply('resume');
      }
      return this.info();
    });
  }

  powerdown(options: CallOptions): Promise<VmInfo> {
    return this.#command('powering down', options, async (deadline) => {
      requireState(this.name, this.#state, ['running'], 'press the power button of');
      await this.#qmp('system_powerdown', deadline);
      return this.info();
    });
  }

  /** Without a deadline of the caller it takes as long as the ladder does. */
  stop({ graceMs = DEFAULT_GRACE_MS, ...options }: CallOptions & { graceMs?: number | undefined }): Promise<Result<'vm.stop'>> {
    const unlimited = { timeoutMs: Number.POSITIVE_INFINITY, ...options };
    return this.#command('stopping', unlimited, async (deadline) => {
      const endedBy = await this.#end(graceMs, deadline.signal);
      return { vm: this.info(), endedBy };
    });
  }

  delete({ force = false, ...options }: CallOptions & { force?: boolean | undefined }): Promise<void> {
    return this.#command('deleting', { timeoutMs: Number.POSITIVE_INFINITY, ...options }, async (deadline) => {
      if (!force) requireState(this.name, this.#state, REST_STATES, 'delete');
      await failpoint('delete.begun');
      await this.#end(0, deadline.signal);
      await failpoint('delete.process-ended');
      await this.#saved;
      await this.#context.store.remove(this.name);
      this.#deleted = true;
      this.#tell('vm.deleted', {});
    });
  }

  qmp(command: string, args: object | undefined, options: CallOptions): Promise<unknown> {
    const send = ({ signal, timeoutMs = COMMAND_TIMEOUT_MS }: CallOptions): Promise<unknown> => {
      requireState(this.name, this.#state, QMP_STATES, 'send a QMP command to');
      return this.#requireSession().qmp.execute(command, args, { signal, timeoutMs });
    };
    // QEMU runs what comes later after it, and the client keeps its deadline: only one that has to wait needs a place in the queue.
    if (this.#queue.isIdle) return send(options);
    return this.#command(`sending ${command} to`, options, ({ signal, remainingMs }) => send({ signal, timeoutMs: remainingMs }));
  }

  /** See live-vm.ts. @throws FairleadError WRONG_STATE, or what the operation throws. */
  operate<T>(
    { doing, inTurn, states = GUEST_STATES }: Operation,
    options: CallOptions,
    run: (vm: LiveVm, deadline: Deadline) => Promise<T>,
  ): Promise<T> {
    const operation = async (deadline: Deadline): Promise<T> => {
      requireState(this.name, this.#state, states, `do this (${doing}) to`);
      return run(this.#live(), deadline);
    };
    if (inTurn) return this.#command(doing, options, operation);
    return withDeadline(`${doing} VM ${this.name}`, options, operation);
  }

  /** Not in the queue: streams are opened side by side, and while a command hangs. */
  async openStream(target: { port: number; connectTimeoutMs: number }, signal: AbortSignal | undefined): Promise<OpenedStream> {
    requireState(this.name, this.#state, GUEST_STATES, 'open a stream into');
    const session = this.#requireSession();
    const { device } = session;
    const { maxStreamsPerVm } = this.#context.limits;
    if (device === undefined) {
      throw new FairleadError('UNSUPPORTED', `VM ${this.name} cannot be reached by streams: ${this.#whyNoDevice()}`);
    }
    using place = session.streams.reserve(maxStreamsPerVm);
    if (place === undefined) {
      throw new FairleadError('LIMIT_EXCEEDED', `VM ${this.name} has ${maxStreamsPerVm} streams open, the most that are allowed`);
    }
    const { consoleLog } = this.#context.store.paths(this.name);
    const readyPort = this.#record.spec.vsock?.readyPort;
    const stream = await openStream({
      ...target,
      session,
      device,
      signal,
      vm: () => ({ name: this.name, state: this.#state, ready: this.#record.ready, readyPort }),
      consoleTail: (maxBytes) => tailOf(consoleLog, { maxBytes }),
    });
    return { stream, transport: device.state.kind, halfClose: device.halfClose, generation: session.generation };
  }

  /** Takes over a process that runs, in the state that it is in. */
  adopt(make: (handlers: SessionHandlers) => Session, state: VmState): Session {
    this.#session = make(this.#handlers());
    this.#state = state;
    return this.#session;
  }

  /** Tells what was found out at the start of the agent: this VM's process is gone. */
  async foundDead(exit: VmExit, state: 'created' | 'stopped' | 'crashed'): Promise<void> {
    this.#state = state;
    this.#session = undefined;
    await this.#context.confinement.leave(this.name);
    await this.#context.store.removeRunDir(this.name);
    await this.#save({ state, ready: false, process: undefined, exit });
    this.#tell(state === 'crashed' ? 'vm.crashed' : 'vm.stopped', { reason: exit.reason });
  }

  /** The agent leaves; the VM stays. */
  async close(): Promise<void> {
    await this.#session?.close();
    await this.#cleaned;
    await this.#saved;
  }

  #command<T>(doing: string, options: CallOptions, run: (deadline: Deadline) => Promise<T>): Promise<T> {
    return withDeadline(`${doing} VM ${this.name}`, options, (deadline) =>
      this.#queue.run(deadline.signal, async () => {
        if (this.#deleted) throw new FairleadError('NOT_FOUND', `VM ${this.name} was deleted`);
        return run(deadline);
      }),
    );
  }

  async #pause(deadline: Deadline): Promise<void> {
    const { device } = this.#requireSession();
    device?.guestChanged('paused');
    await device?.settle();
    try {
      await this.#qmp('stop', deadline);
    } catch (error) {
      // If QEMU does stop later, its event says so.
      device?.guestChanged('resumed');
      throw error;
    }
  }

  #qmp(name: QmpCommandName, { signal, remainingMs }: Deadline): Promise<unknown> {
    return runCommand(this.#requireSession().qmp, name, {}, { signal, timeoutMs: remainingMs });
  }

  #requireSession(): Session {
    if (this.#session !== undefined) return this.#session;
    throw new FairleadError('WRONG_STATE', `VM ${this.name} is ending`, { details: { vm: this.name, state: this.#state } });
  }

  #live(): LiveVm {
    const session = this.#requireSession();
    const { process } = this.#record;
    if (process === undefined) throw new FairleadError('WRONG_STATE', `VM ${this.name} has no process yet`);
    return liveVm({
      session,
      process,
      paths: this.#context.store.paths(this.name),
      record: () => this.#record,
      state: () => this.#state,
      save: (change) => this.#save(change),
      tell: (type, data) => this.#tell(type, data),
    });
  }

  #whyNoDevice(): string {
    if (this.#record.spec.vsock === undefined) return 'its spec has no vsock';
    const { vsock } = this.#context;
    return vsock.available ? 'its vsock device was lost: stop and start it' : vsock.reason;
  }

  async #end(graceMs: number, signal: AbortSignal): Promise<Result<'vm.stop'>['endedBy']> {
    await failpoint('stop.begun');
    const session = this.#session;
    if (session === undefined) {
      await this.#cleaned;
      return 'already-stopped';
    }
    // Only a guest that runs can hear the button.
    const isRunning = this.#state === 'running';
    this.#apply('stop', { reason: 'requested' });
    try {
      return await descend(ladderTarget(session), {
        graceMs: isRunning ? graceMs : 0,
        times: this.#context.ladderTimes ?? LADDER_TIMES,
        signal,
        onRung: (rung) => {
          this.#rung = rung;
        },
      });
    } catch (error) {
      // The guest was only asked, and nobody waits for it any more.
      if (this.#rung === 'guest') this.#apply('stop-abandoned');
      throw error;
    } finally {
      if (session.process.hasExited()) await session.ended.then(() => this.#cleaned);
      this.#rung = undefined;
    }
  }

  async #startFailed(before: VmRecord, error: FairleadError): Promise<void> {
    // A guest that ran for a moment has been told as started, so it is told as ended too; else nothing ever happened.
    if (this.#state === 'starting') this.#state = before.state;
    else this.#apply('exit-unexpected', { reason: 'start-failed' });
    const { exitCode = null, signal = null, stderrTail = '' } = error.details ?? {};
    const exit: VmExit = {
      at: new Date().toISOString(),
      reason: 'start-failed',
      code: typeof exitCode === 'number' ? exitCode : null,
      signal: typeof signal === 'string' ? signal : null,
      stderrTail: typeof stderrTail === 'string' ? stderrTail : '',
    };
    this.#session = undefined;
    await this.#save({ state: before.state, ready: false, process: undefined, exit });
  }

  #handlers(): SessionHandlers {
    return {
      onInput: (input, data) => this.#apply(input, data),
      onReady: () => this.#onReady(),
      onEnd: (end) => this.#onEnd(end),
    };
  }

  #onReady(): void {
    if (this.#record.ready) return;
    this.#saveLater({ ready: true });
    this.#tell('vm.ready', { generation: this.#record.generation });
  }

  #onEnd(end: SessionEnd): void {
    const session = this.#session;
    // While it starts, the end of the process is the start's failure.
    if (session === undefined) return;
    const { code, signal, shutdownReason } = end;
    const paths = this.#context.store.paths(this.name);
    const isWanted = shutdownReason === undefined ? this.#rung === 'sigkill' : !UNWANTED_ENDS.includes(shutdownReason);
    const reason = shutdownReason ?? (isWanted ? 'sigkill' : 'lost');
    const stderrTail = tailOf(paths.qemuLog, { from: this.#record.process?.logOffset ?? 0 });
    const exit: VmExit = { at: new Date().toISOString(), reason, code, signal, stderrTail };
    this.#session = undefined;
    this.#saveLater({ state: isWanted ? 'stopped' : 'crashed', ready: false, process: undefined, exit });
    this.#apply(isWanted ? 'exit-clean' : 'exit-unexpected', { reason, code, signal });
    this.#cleaned = this.#cleanUp(session);
  }

  async #cleanUp(session: Session): Promise<void> {
    try {
      await session.device?.[Symbol.asyncDispose]();
      await this.#context.confinement.leave(this.name);
      await this.#context.store.removeRunDir(this.name);
      await this.#saved;
    } catch (error) {
      this.#context.logger.error({ vm: this.name, error: toFairleadError(error).message }, 'could not clean up after a VM');
    }
  }

  #apply(input: VmInput, data: JsonObject = {}): void {
    const next = transition(this.#state, input);
    if (next === undefined) return;
    this.#state = next.state;
    if (input === 'reset' && this.#record.ready) this.#saveLater({ ready: false });
    if (next.event === undefined) return;
    const { generation, process } = this.#record;
    const more = next.event === 'vm.started' ? { pid: process?.pid, accelerator: process?.accelerator } : {};
    this.#tell(next.event, { generation, ...more, ...data });
  }

  #tell(type: VmEventType, data: JsonObject): void {
    this.#context.events.append({ vm: this.name, type, state: this.#state, data });
    this.#context.logger.info({ vm: this.name, state: this.#state, ...data }, type);
  }

  /** The record changes at once; the promise is for those who need it on disk. */
  #save(change: Partial<VmRecord>): Promise<void> {
    this.#record = { ...this.#record, ...change };
    const record = this.#record;
    const saved = this.#saved.then(() => this.#context.store.save(record));
    this.#saved = saved.catch(() => {});
    return saved;
  }

  #saveLater(change: Partial<VmRecord>): void {
    this.#save(change).catch((error: unknown) => {
      this.#context.logger.error({ vm: this.name, error: toFairleadError(error).message }, 'could not save the record of a VM');
    });
  }
}

async function withDeadline<T>(what: string, options: CallOptions, run: (deadline: Deadline) => Promise<T>): Promise<T> {
  const { timeoutMs = COMMAND_TIMEOUT_MS, signal } = options;
  using deadline = new Deadline(what, { timeoutMs, signal });
  return await run(deadline);
}

function ladderTarget(session: Session) {
  return {
    vm: session.vm,
    exited: session.process.exited,
    signal: (name: 'SIGTERM' | 'SIGKILL') => session.process.signal(name),
    execute: async (command: 'system_powerdown' | 'quit', limits: { timeoutMs: number; signal: AbortSignal }) =>
      runCommand(session.qmp, command, {}, limits),
  };
}
