/**
 * The commands on one VM, one after another in the order of their calls; its life below them is life.ts. VMs share nothing but the event
 * log, so one that hangs holds up nobody else. Commands may be called at any time and throw FairleadError.
 */
import type { Duplex } from 'node:stream';
import { FairleadError, toFairleadError } from '../../shared/errors.ts';
import type { Result } from '../../shared/protocol/methods.ts';
import type { VmInfo, VmState } from '../../shared/protocol/vm.ts';
import { failpoint } from '../failpoint.ts';
import { type QmpCommandName, runCommand } from '../qmp/commands.ts';
import type { VsockDevice } from '../streams/transport.ts';
import { adopt } from './adopt.ts';
import type { CallOptions, OpenedStream, VmLimits } from './api.ts';
import { capabilitiesOf } from './capabilities.ts';
import { CommandQueue } from './command-queue.ts';
import { COMMAND_TIMEOUT_MS, type Deadline, withDeadline } from './deadline.ts';
import { type EndContext, type Ending, endProcess } from './end-process.ts';
import { goOn } from './go-on.ts';
import { launch } from './launch.ts';
import { type LifeContext, VmLife } from './life.ts';
import { type LiveVm, liveVm, type Operation, type RestingVm } from './live-vm.ts';
import { tailOf } from './logs/log-file.ts';
import { GUEST_STATES, QMP_STATES, REST_STATES, requireStartable, requireState, SLEEP_STATES } from './machine.ts';
import { openStream } from './open-stream.ts';
import { RestartTimer } from './restart-timer.ts';
import type { Session } from './session.ts';
import { IdleWatch } from './snapshot/idle-watch.ts';
import type { Restoration } from './snapshot/incoming.ts';
import { recording, restoring } from './snapshot/restoration.ts';
import { type SleepContext, Sleeper } from './snapshot/sleeper.ts';
import type { Durability } from './snapshot/suspension.ts';
import { checkFiles } from './spec-check.ts';
import type { VmPaths, VmRecord } from './store.ts';
import type { StrayProcesses } from './strays.ts';

export interface SupervisorContext extends LifeContext, SleepContext, EndContext {
  readonly limits: VmLimits;
}

const START_TIMEOUT_MS = 60_000;
const DEFAULT_GRACE_MS = 10_000;

export class Supervisor {
  readonly name: string;
  readonly #context: SupervisorContext;
  readonly #life: VmLife;
  readonly #queue = new CommandQueue();
  readonly #restart: RestartTimer;
  readonly #ending: Ending;
  readonly #sleeper: Sleeper;
  readonly #idle: IdleWatch;
  readonly #leaving = new AbortController();
  /** The attempt of the restart policy that is under way, or was last. Never rejects. */
  #restarting: Promise<void> = Promise.resolve();
  #deleted = false;

  constructor(context: SupervisorContext, record: VmRecord) {
    this.#context = context;
    this.name = record.spec.name;
    this.#restart = new RestartTimer(() => {
      this.#restarting = this.#startAgain();
    });
    this.#life = new VmLife(context, record, {
      onRest: () => this.#planRestart(),
      onDialled: (stream) => this.#useUntilClosed(stream),
    });
    this.#ending = { context, life: this.#life, live: () => this.#live() };
    this.#sleeper = new Sleeper({
      context,
      life: this.#life,
      live: () => this.#live(),
    });
    this.#idle = new IdleWatch({
      policy: () => this.#life.record.spec.idle,
      isAwake: () => this.state === 'running' && (this.record.ready || this.record.spec.vsock?.readyPort === undefined),
      suspend: () => this.#suspendIdle(),
    });
    const heldMs = Date.parse(record.heldUntil ?? '') - Date.now();
    if (heldMs > 0) this.#idle.hold(heldMs);
  }

  get state(): VmState {
    return this.#life.state;
  }

  get record(): VmRecord {
    return this.#life.record;
  }

  info(): VmInfo {
    return this.#life.info();
  }

  capabilities(): Result<'vm.capabilities'> {
    return capabilitiesOf(this.record.spec, this.#context.vsock);
  }

  /** Once, when the VM has been created. */
  announce(): void {
    this.#life.tell('vm.created', {});
  }

  start(options: CallOptions): Promise<VmInfo> {
    return this.#command('starting', { timeoutMs: START_TIMEOUT_MS, ...options }, async (deadline) => {
      if (this.state === 'running') return this.info();
      requireStartable(this.name, this.state);
      this.#restart.cancel();
      await this.#launch(deadline, undefined);
      return this.info();
    });
  }

  /** A start from a saved guest, in the machine of another spec. Whatever fails before that guest is loaded leaves the VM as it was. */
  restore(prepare: (paths: VmPaths) => Promise<Restoration>, options: CallOptions): Promise<VmInfo> {
    return this.#command('restoring', { timeoutMs: Number.POSITIVE_INFINITY, ...options }, async (deadline) => {
      requireState(this.name, this.state, REST_STATES, 'restore');
      this.#restart.cancel();
      const restoration = await prepare(this.#context.store.paths(this.name));
      await restoring(this.#life, restoration, () => this.#launch(deadline, undefined, restoration));
      return this.info();
    });
  }

  atRest<T>(doing: string, options: CallOptions, run: (vm: RestingVm, deadline: Deadline) => Promise<T>): Promise<T> {
    return this.#command(doing, { timeoutMs: Number.POSITIVE_INFINITY, ...options }, async (deadline) => {
      requireState(this.name, this.state, REST_STATES, `do this (${doing}) at rest to`);
      const paths = this.#context.store.paths(this.name);
      return run({ name: this.name, spec: this.record.spec, paths, changeSpec: (spec) => this.#life.save({ spec }) }, deadline);
    });
  }

  pause(options: CallOptions): Promise<VmInfo> {
    return this.#command('pausing', options, async (deadline) => {
      requireState(this.name, this.state, ['running', 'paused'], 'pause');
      if (this.state === 'running') await this.#pause(deadline);
      this.#life.apply('pause');
      return this.info();
    });
  }

  resume(options: CallOptions): Promise<VmInfo> {
    return this.#command('resuming', options, async (deadline) => {
      requireState(this.name, this.state, ['running', 'paused', 'io-error', 'suspended'], 'resume');
      if (this.state === 'suspended') {
        await this.#sleeper.resume(deadline);
        return this.info();
      }
      if (this.state !== 'running') await goOn(() => this.#qmp('cont', deadline), deadline.signal);
      this.#life.apply('resume');
      return this.info();
    });
  }

  /** A repeat finds it suspended and answers the same. */
  suspend({ durability, ...options }: CallOptions & { durability: Durability }): Promise<Result<'vm.suspend'>> {
    return this.#command('suspending', { timeoutMs: START_TIMEOUT_MS, ...options }, async (deadline) => {
      requireState(this.name, this.state, ['running', 'suspended'], 'suspend');
      if (this.state === 'running') await this.#sleeper.suspend(durability, deadline);
      return { vm: this.info() };
    });
  }

  /** Awake for so long at least, whatever its idle policy says; woken now if it sleeps. */
  hold({ forMs, ...options }: CallOptions & { forMs: number }): Promise<Result<'vm.hold'>> {
    return this.#command('holding', { timeoutMs: START_TIMEOUT_MS, ...options }, async (deadline) => {
      const until = this.#idle.hold(forMs).toISOString();
      if (this.state === 'suspended') await this.#sleeper.resume(deadline);
      requireState(this.name, this.state, GUEST_STATES, 'hold');
      await this.#life.save({ heldUntil: until });
      return { vm: this.info(), until };
    });
  }

  /** A guest that had panicked or lost its disk runs again afterwards; one that was paused stays so. */
  reset(options: CallOptions): Promise<VmInfo> {
    return this.#command('resetting', options, async (deadline) => {
      requireState(this.name, this.state, GUEST_STATES, 'reset');
      const isHalted = this.state === 'panicked' || this.state === 'io-error';
      // Ended before, and not only at the event, so that a guest that still lives hears of it.
      const session = this.#requireSession();
      session.resetStreams();
      // Whoever dials again at once would meet the reset.
      const isRunning = this.state === 'running';
      if (isRunning) session.device?.guestChanged('paused');
      try {
        await session.device?.settle();
        await this.#qmp('system_reset', deadline);
      } finally {
        if (isRunning) session.device?.guestChanged('resumed');
      }
      if (isHalted) {
        await this.#qmp('cont', deadline);
        this.#life.apply('resume');
      }
      return this.info();
    });
  }

  powerdown(options: CallOptions): Promise<VmInfo> {
    return this.#command('powering down', options, async (deadline) => {
      requireState(this.name, this.state, ['running'], 'press the power button of');
      await this.#qmp('system_powerdown', deadline);
      return this.info();
    });
  }

  /** Without a deadline of the caller it takes as long as the ladder does. The restart policy rests until the next start. */
  stop({ graceMs = DEFAULT_GRACE_MS, ...options }: CallOptions & { graceMs?: number | undefined }): Promise<Result<'vm.stop'>> {
    return this.#command('stopping', { timeoutMs: Number.POSITIVE_INFINITY, ...options }, async (deadline) => {
      if (this.state === 'suspended') {
        if (graceMs === 0) {
          await this.#sleeper.discard();
          return { vm: this.info(), endedBy: 'discarded' };
        }
        // What it has not written yet is lost unless it shuts down by itself, and for that it must be awake.
        await this.#sleeper.resume(deadline);
      }
      const endedBy = await this.#end(graceMs, deadline.signal);
      return { vm: this.info(), endedBy };
    });
  }

  delete({ force = false, ...options }: CallOptions & { force?: boolean | undefined }): Promise<void> {
    return this.#command('deleting', { timeoutMs: Number.POSITIVE_INFINITY, ...options }, async (deadline) => {
      if (!force) requireState(this.name, this.state, REST_STATES, 'delete');
      await failpoint('delete.begun');
      if (this.state === 'suspended') await this.#sleeper.discard();
      else await this.#end(0, deadline.signal);
      await this.#life.saved;
      await failpoint('delete.process-ended');
      await this.#context.store.remove(this.name);
      this.#deleted = true;
      this.#life.tell('vm.deleted', {});
    });
  }

  qmp(command: string, args: object | undefined, options: CallOptions): Promise<unknown> {
    const send = async ({ signal, timeoutMs = COMMAND_TIMEOUT_MS }: CallOptions): Promise<unknown> => {
      requireState(this.name, this.state, QMP_STATES, 'send a QMP command to');
      return this.#requireSession().qmp.execute(command, args, { signal, timeoutMs });
    };
    // The QMP client keeps the deadline of what it sends; only a place in the queue needs another.
    if (this.#queue.isIdle) return this.#queue.run(undefined, () => send(options));
    return this.#command(`sending ${command} to`, options, ({ signal, remainingMs }) => send({ signal, timeoutMs: remainingMs }));
  }

  /** See live-vm.ts. @throws FairleadError WRONG_STATE, or what the operation throws. */
  operate<T>(
    { doing, inTurn, wakes = false, states = GUEST_STATES }: Operation,
    options: CallOptions,
    run: (vm: LiveVm, deadline: Deadline) => Promise<T>,
  ): Promise<T> {
    const operation = async (deadline: Deadline): Promise<T> => {
      using _ = this.#idle.use();
      if (wakes && !inTurn) await this.#wake(deadline);
      requireState(this.name, this.state, states, `do this (${doing}) to`);
      return run(this.#live(), deadline);
    };
    if (inTurn) return this.#command(doing, options, operation);
    return withDeadline(`${doing} VM ${this.name}`, options, operation);
  }

  /** Not in the queue: streams are opened side by side, and while a command hangs. */
  async openStream(target: { port: number; connectTimeoutMs: number }, signal: AbortSignal | undefined): Promise<OpenedStream> {
    using _ = this.#idle.use();
    await this.#wake({ signal });
    const opened = await this.#openStream(target, signal).catch(async (error: unknown) => {
      if (!this.#isAsleep) throw error;
      // It fell asleep under the dial, by a command; it does not by itself while it is in use.
      await this.#wake({ signal });
      return this.#openStream(target, signal);
    });
    this.#useUntilClosed(opened.stream);
    return opened;
  }

  /** Whoever has a stream into the guest, or out of it, uses the VM. */
  #useUntilClosed(stream: Duplex): void {
    if (stream.closed) return;
    const use = this.#idle.use();
    stream.once('close', () => use[Symbol.dispose]());
  }

  async #openStream(target: { port: number; connectTimeoutMs: number }, signal: AbortSignal | undefined): Promise<OpenedStream> {
    requireState(this.name, this.state, GUEST_STATES, 'open a stream into');
    const { consoleLog } = this.#context.store.paths(this.name);
    const readyPort = this.record.spec.vsock?.readyPort;
    return openStream({
      ...target,
      session: this.#requireSession(),
      maxStreams: this.#context.limits.maxStreamsPerVm,
      signal,
      vm: () => ({ name: this.name, state: this.state, ready: this.record.ready, readyPort }),
      whyNoDevice: () => this.#whyNoDevice(),
      consoleTail: (maxBytes) => tailOf(consoleLog, { maxBytes }),
    });
  }

  /**
   * Once, at the start of the agent, before any command. Settles when the process has been taken over and has answered, or was not there;
   * commands wait for that too, in their turn.
   */
  async adopt(strays: StrayProcesses, leaving: AbortSignal): Promise<void> {
    using _ = this.#idle.use();
    await this.#queue.run(undefined, async () => {
      await adopt(this.#context, this.#life, { strays, leaving });
      await this.#sleeper.recover(leaving);
    });
    this.#planRestart();
    const { stop } = this.record;
    if (stop === undefined || this.#life.session === undefined) return;
    // Nobody waits for it, and it was asked for.
    void this.stop({ graceMs: stop.rung === 'guest' ? stop.graceMs : 0, signal: leaving }).catch((error: unknown) => {
      const { message } = toFairleadError(error);
      if (!leaving.aborted) this.#context.logger.error({ vm: this.name, error: message }, 'could not finish the stop of a VM');
    });
  }

  #planRestart(): void {
    const { restarts, spec } = this.#life.record;
    this.#restart.set(restarts, spec.restart.maxDelayMs);
  }

  /** The agent leaves; the VM stays. */
  async close(): Promise<void> {
    this.#restart.cancel();
    this.#idle[Symbol.dispose]();
    this.#leaving.abort();
    await this.#restarting;
    await this.#life.close();
  }

  #command<T>(doing: string, options: CallOptions, run: (deadline: Deadline) => Promise<T>): Promise<T> {
    return withDeadline(`${doing} VM ${this.name}`, options, (deadline) =>
      this.#queue.run(deadline.signal, async () => {
        if (this.#deleted) throw new FairleadError('NOT_FOUND', `VM ${this.name} was deleted`);
        using _ = this.#idle.use();
        return await run(deadline);
      }),
    );
  }

  /** Its guest cannot be reached now, and will be when a command has come to its end: a suspend, a resume, or one to wake it. */
  get #isAsleep(): boolean {
    const isBeingOwned = this.#life.session === undefined && GUEST_STATES.includes(this.state);
    return SLEEP_STATES.includes(this.state) || isBeingOwned || this.#sleeper.owesVsock;
  }

  /** Before anything of the guest is used. Callers side by side cause one resume: the others find it done in their turn. */
  async #wake(options: CallOptions): Promise<void> {
    if (!this.#isAsleep) return;
    await this.#command('waking', { timeoutMs: START_TIMEOUT_MS, ...options }, async (deadline) => {
      if (this.state === 'suspended') await this.#sleeper.resume(deadline);
      else if (this.state === 'running') await this.#sleeper.giveVsockBack();
    });
  }

  /** By the idle policy, unless somebody has come meanwhile. Never rejects. */
  async #suspendIdle(): Promise<void> {
    try {
      const limits = { timeoutMs: START_TIMEOUT_MS, signal: this.#leaving.signal };
      await withDeadline(`suspending VM ${this.name}`, limits, (deadline) =>
        this.#queue.run(deadline.signal, async () => {
          const isWanted = (): boolean => this.state === 'running' && this.#idle.isIdle;
          if (isWanted()) await this.#sleeper.suspend('process', deadline, isWanted);
        }),
      );
    } catch (error) {
      if (this.#leaving.signal.aborted) return;
      this.#context.logger.warn({ vm: this.name, error: toFairleadError(error).message }, 'could not suspend an idle VM');
    }
  }

  /** `restarts` is where the policy stands when the attempt is its own. */
  async #launch(deadline: Deadline, restarts: VmRecord['restarts'], restoration?: Restoration): Promise<void> {
    const life = this.#life;
    await life.cleaned;
    const before = this.record;
    life.apply('start');
    try {
      const spec = restoration?.spec ?? before.spec;
      await checkFiles(spec);
      const save = (change: Partial<VmRecord>) => life.save({ ...change, restarts });
      const incoming = restoration && recording(restoration, () => save({ spec }));
      const request = { record: { ...before, spec }, save, handlers: life.handlers(), deadline, incoming };
      life.own(await launch(this.#context, request));
    } catch (error) {
      await life.startFailed(before, toFairleadError(error), restarts !== undefined);
      throw error;
    }
    life.apply(restoration?.incoming.after === 'pause' ? 'pause' : 'resume');
    life.saveLater({ state: 'running' });
  }

  /** By the restart policy, when the plan is due. */
  async #startAgain(): Promise<void> {
    const { signal } = this.#leaving;
    try {
      await this.#command('starting again', { timeoutMs: START_TIMEOUT_MS, signal }, async (deadline) => {
        const { restarts } = this.record;
        if (restarts?.dueAt === undefined || !REST_STATES.includes(this.state)) return;
        await this.#launch(deadline, { attempts: restarts.attempts });
      });
    } catch (error) {
      // The plan is in the record, for the next agent.
      if (signal.aborted || this.#deleted) return;
      this.#context.logger.warn({ vm: this.name, error: toFairleadError(error).message }, 'could not start a VM again');
      this.#planRestart();
    }
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
    const { session } = this.#life;
    if (session !== undefined) return session;
    throw new FairleadError('WRONG_STATE', `VM ${this.name} is ending`, { details: { vm: this.name, state: this.state } });
  }

  #live(): LiveVm {
    const session = this.#requireSession();
    const { process } = this.record;
    if (process === undefined) throw new FairleadError('WRONG_STATE', `VM ${this.name} has no process yet`);
    const life = this.#life;
    return liveVm({
      session,
      process,
      paths: this.#context.store.paths(this.name),
      prepareVsock: (signal) => this.#prepareVsock(signal),
      record: () => life.record,
      state: () => life.state,
      save: (change) => life.save(change),
      tell: (type, data) => life.tell(type, data),
    });
  }

  async #prepareVsock(signal: AbortSignal): Promise<VsockDevice> {
    const { vsock, store, confinement } = this.#context;
    if (!vsock.available) {
      throw new FairleadError('UNSUPPORTED', `VM ${this.name} wants a vsock and this host has none: ${vsock.reason}`);
    }
    const guard = confinement.guardOf(this.name);
    return vsock.transport.prepare({ vm: this.name, runDir: store.paths(this.name).runDir, guard, signal });
  }

  #whyNoDevice(): string {
    if (this.record.spec.vsock === undefined) return 'its spec has no vsock';
    const { vsock } = this.#context;
    return vsock.available ? 'its vsock device was lost: stop and start it' : vsock.reason;
  }

  #end(graceMs: number, signal: AbortSignal): Promise<Result<'vm.stop'>['endedBy']> {
    this.#restart.cancel();
    return endProcess(this.#ending, { graceMs, signal });
  }
}
