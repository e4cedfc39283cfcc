/**
 * One VM below its commands: its record, its state (machine.ts), the session with its process while there is one, and how these change
 * with what happens. Whatever happens comes in here, in order, and is told from here; the commands are in supervisor.ts.
 *
 * Handlers are called by the session and never throw: what cannot be saved then is logged.
 */
import type { Duplex } from 'node:stream';
import { type FairleadError, type JsonObject, toFairleadError } from '../../shared/errors.ts';
import type { VmExit, VmInfo, VmState } from '../../shared/protocol/vm.ts';
import type { NewVmEvent, VmEventData, VmEventType } from '../../shared/protocol/vm-events.ts';
import { failpoint } from '../failpoint.ts';
import { ageOf } from '../process-age.ts';
import { settledWithin } from './deadline.ts';
import { judgeEnd } from './ending.ts';
import type { EventLog } from './events.ts';
import { releaseHostDevices } from './host/host-devices.ts';
import type { LaunchContext } from './launch.ts';
import { tailOf } from './logs/log-file.ts';
import { SLEEP_STATES, transition, type VmInput } from './machine.ts';
import { type DueRestart, isCrashLoop, planRestart, waitOf } from './restart.ts';
import type { Session, SessionEnd, SessionHandlers } from './session.ts';
import { sharesRam } from './snapshot/ram-file.ts';
import { wholeSpec } from './snapshot/suspension.ts';
import type { EndedBy } from './stop-ladder.ts';
import type { VmRecord } from './store.ts';

export interface LifeContext extends LaunchContext {
  readonly events: EventLog;
}

/** What is known of an end that nobody watched. */
export interface FoundEnd {
  readonly shutdownReason: string | undefined;
  readonly otherwise: 'lost' | 'host-restart' | 'out-of-memory';
  readonly at: Date;
}

/** Longer than a sound disk takes; nobody's stop waits for one that hangs. */
const SAVE_MS = 2_000;

/** Two syncs at a time take longer than one after the other: a call whose answer is being journalled has got it by then. */
const SOON_MS = 50;

/** Of an error's message in an event: QEMU's last words may be many. */
const MAX_TOLD_CHARS = 1_000;

export interface PreparedSave {
  save(): Promise<void>;
  /** Never rejects; after `save` it does nothing. */
  drop(): Promise<void>;
}

export interface LifeHooks {
  /** The process has ended, and the record says what is to follow. */
  onRest(): void;
  /** The guest has opened a stream. */
  onDialled(stream: Duplex): void;
}

export class VmLife {
  readonly name: string;
  /** How the ladder is ending the process; undefined while nobody is. */
  rung: EndedBy | undefined;
  /** All of the guest is on disk: the end of its process is not its end, from here to the next launch. */
  isGuestSaved = false;
  readonly #context: LifeContext;
  readonly #hooks: LifeHooks;
  #record: VmRecord;
  #state: VmState;
  #session: Session | undefined;
  #saved: Promise<void> = Promise.resolve();
  /** Something of the record is to be saved that is not yet. */
  #due: NodeJS.Timeout | undefined;
  #cleaned: Promise<void> = Promise.resolve();

  constructor(context: LifeContext, record: VmRecord, hooks: LifeHooks) {
    this.#context = context;
    this.#record = record;
    this.#state = record.state;
    this.#hooks = hooks;
    this.name = record.spec.name;
  }

  get state(): VmState {
    return this.#state;
  }

  get record(): VmRecord {
    return this.#record;
  }

  get session(): Session | undefined {
    return this.#session;
  }

  /** Settles when nothing is left of the last process. Never rejects. */
  get cleaned(): Promise<void> {
    return this.#cleaned;
  }

  /** Settles when what was saved so far is on disk, or could not be. */
  get saved(): Promise<void> {
    return this.#saved;
  }

  info(): VmInfo {
    const { uuid, ready, generation, createdAt, exit, process, restarts, suspension } = this.#record;
    const spec = wholeSpec(this.#record);
    const device = this.#session?.device;
    const memory = this.#session?.memory.actualBytes(spec.memory.bytes);
    const info: VmInfo = { name: this.name, uuid, state: this.#state, ready, generation, labels: spec.labels, createdAt, spec };
    if (exit !== undefined) info.exit = exit;
    if (restarts !== undefined) info.restart = restarts;
    if (suspension !== undefined) {
      const { at, durability, deviceState } = suspension;
      info.suspended = { at, durability, deviceStateBytes: deviceState.bytes };
    }
    if (process !== undefined) {
      const { pid, startedAt, accelerator, qemuVersion } = process;
      Object.assign(info, { pid, startedAt, accelerator, qemuVersion });
    }
    if (memory !== undefined) {
      const shares = process !== undefined && sharesRam(process.argv);
      info.memory = { actualBytes: memory, ...(shares ? { sharedBytes: spec.memory.bytes } : {}) };
    }
    if (device !== undefined) info.vsock = { cid: device.cid, transport: device.state.kind, halfClose: device.halfClose };
    return info;
  }

  /** `at` is when it happened, in milliseconds of the host's clock; now unless it is given. */
  apply(input: VmInput, data: JsonObject = {}, at?: number): void {
    const next = transition(this.#state, input);
    if (next === undefined) return;
    this.#state = next.state;
    if (input === 'reset' && this.#record.ready) this.saveLater({ ready: false });
    if (next.event === undefined) return;
    const { pid, accelerator } = this.#record.process ?? {};
    const more = next.event === 'vm.started' ? { pid, accelerator } : {};
    // The machine's table pairs each input with the event that has its data; tests parse what whole lives tell.
    this.tell(next.event, { ...more, ...data }, at);
  }

  tell<Type extends VmEventType>(type: Type, data: VmEventData<Type>, at?: number): void {
    const { generation } = this.#record;
    const time = at === undefined ? undefined : new Date(Math.floor(at)).toISOString();
    const event = { vm: this.name, type, state: this.#state, data: { generation, ...data }, time };
    // SAFETY: `Type` ties the data to the type; TypeScript does not see that the whole is one of the union.
    this.#context.events.append(event as unknown as NewVmEvent);
    this.#context.logger.info({ vm: this.name, state: this.#state, ...data }, type);
  }

  /** The record changes at once; the promise is for those who need it on disk. */
  save(change: Partial<VmRecord>): Promise<void> {
    clearTimeout(this.#due);
    this.#due = undefined;
    this.#record = { ...this.#record, ...change };
    const record = this.#record;
    const saved = this.#saved.then(() => this.#context.store.save(record));
    this.#saved = saved.catch(() => {});
    return saved;
  }

  /** Writes a change ahead of time, so that to make it is one step. What is not made is to be dropped. @throws errors of the file system */
  async prepare(change: Partial<VmRecord>): Promise<PreparedSave> {
    const before = this.#record;
    const record = { ...before, ...change };
    const written = await this.#context.store.prepare(record);
    return {
      save: async () => {
        // Something else has been saved meanwhile, and is not to be lost.
        if (this.#record !== before) return this.save(change);
        this.#record = record;
        const saved = this.#saved.then(() => written.replace());
        this.#saved = saved.catch(() => {});
        return saved;
      },
      drop: () => written.drop(),
    };
  }

  saveLater(change: Partial<VmRecord>): void {
    void this.saveIfPossible(change);
  }

  /** The record changes at once, the disk a little later: for what a crash may undo and whose caller waits for the disk himself. */
  saveSoon(change: Partial<VmRecord>): void {
    this.#record = { ...this.#record, ...change };
    this.#due ??= setTimeout(() => this.saveLater({}), SOON_MS);
  }

  /** For what must go on without a disk, such as a stop: settles when it is saved, cannot be, or takes too long. Never rejects. */
  async saveIfPossible(change: Partial<VmRecord>): Promise<void> {
    const saved = this.save(change).catch((error: unknown) => {
      this.#context.logger.error({ vm: this.name, error: toFairleadError(error).message }, 'could not save the record of a VM');
    });
    await settledWithin(saved, SAVE_MS);
  }

  /** Has a process from here on: one that was launched, or one of before in the state that it is in. */
  own(session: Session, state: VmState = this.#state): void {
    this.#session = session;
    this.isGuestSaved = false;
    this.#state = state;
  }

  /** `isByPolicy` where the restart policy made the attempt; the next is planned then. */
  async startFailed(before: VmRecord, error: FairleadError, isByPolicy: boolean): Promise<void> {
    const { exitCode, signal, stderrTail } = error.details ?? {};
    const exit: VmExit = {
      at: new Date().toISOString(),
      reason: 'start-failed',
      code: typeof exitCode === 'number' ? exitCode : null,
      signal: typeof signal === 'string' ? signal : null,
      stderrTail: typeof stderrTail === 'string' ? stderrTail : '',
    };
    const hasRun = this.#state !== 'starting';
    // A guest that ran for a moment has been told as started, so it is told as ended too.
    if (!hasRun) this.#state = before.state;
    else this.apply('exit-unexpected', { reason: exit.reason, code: exit.code, signal: exit.signal });
    this.#session = undefined;
    const restarts = isByPolicy ? this.#plan({ isClean: false, isByHand: false, ranMs: 0 }) : undefined;
    await this.save({ state: before.state, ready: false, process: undefined, exit, restarts });
    if (!hasRun) this.tell('vm.start-failed', { code: error.code, message: error.message.slice(0, MAX_TOLD_CHARS) });
    this.#tellPlan(restarts);
  }

  /** At the start of the agent: there is no process any more, or there shall be none. */
  async foundDead(end: FoundEnd): Promise<void> {
    const { state, process, stop, generation, restarts: before } = this.#record;
    // One with a process may have run, and been told so, just before the host went.
    const isHalfStarted = state === 'starting' && end.otherwise !== 'host-restart';
    const judged = isHalfStarted ? { reason: 'start-failed', isClean: true } : judgeEnd({ ...end, rung: stop?.rung });
    const { reason } = judged;
    // Whatever its process said: a guest that was to go on is lost.
    const isClean = judged.isClean && !SLEEP_STATES.includes(state);
    const exit: VmExit = { at: end.at.toISOString(), reason, code: null, signal: null, stderrTail: this.#lastWords() };
    const ranMs = isHalfStarted || process === undefined ? 0 : end.at.getTime() - Date.parse(process.startedAt);
    // Who asked for a start that did not come to its end is told so, and may ask again; the policy's own attempts go on.
    const isPlanned = !isHalfStarted || before !== undefined;
    const restarts = isPlanned
      ? this.#plan({ isClean: isClean && !isHalfStarted, isByHand: stop !== undefined, ranMs })
      : undefined;
    this.#session = undefined;
    this.#state = isClean ? 'stopped' : 'crashed';
    const last = this.#context.events.lastOf(this.name);
    const isTold = last?.data.generation === generation && (last.state === 'stopped' || last.state === 'crashed');
    await this.#release({ keepsRam: false });
    await this.save({ ...this.#atRest(), state: this.#state, exit, restarts });
    if (!isTold) this.tell(isClean ? 'vm.stopped' : 'vm.crashed', { reason, code: null, signal: null }, end.at.getTime());
    this.#tellPlan(restarts);
    this.#hooks.onRest();
  }

  /** A guest that sleeps is given up. */
  async discard(): Promise<void> {
    const exit: VmExit = { at: new Date().toISOString(), reason: 'discarded', code: null, signal: null, stderrTail: '' };
    await this.save({ ...this.#atRest(), state: 'stopped', exit, restarts: undefined });
    this.apply('discard', { reason: exit.reason, code: null, signal: null });
    await failpoint('discard.recorded');
    await this.#release({ keepsRam: false });
  }

  handlers(): SessionHandlers {
    return {
      onInput: (input, data, at) => this.apply(input, data, at),
      onNotice: ({ type, data }, at) => {
        // How a guest is saved and brought back is nobody's migration.
        if (type !== 'vm.migration-changed' || !SLEEP_STATES.includes(this.#state)) this.tell(type, data, at);
      },
      onReady: () => this.#onReady(),
      onDialled: (stream) => this.#hooks.onDialled(stream),
      onEnd: (end) => this.#onEnd(end),
    };
  }

  /** The agent leaves; the VM stays. */
  async close(): Promise<void> {
    await this.#session?.close();
    await this.#cleaned;
    if (this.#due !== undefined) this.saveLater({});
    await this.#saved;
  }

  #onReady(): void {
    const { unpluggedVsock, spec, ready } = this.#record;
    if (unpluggedVsock !== undefined && spec.vsock !== undefined) this.saveLater({ unpluggedVsock: undefined });
    if (ready) return;
    this.saveLater({ ready: true });
    this.tell('vm.ready', {});
  }

  #onEnd({ code, signal, shutdownReason }: SessionEnd): void {
    const session = this.#session;
    // While it starts, the end of the process is the start's failure.
    if (session === undefined) return;
    if (this.isGuestSaved) {
      this.#session = undefined;
      this.#record = { ...this.#record, process: undefined };
      this.#cleaned = this.#cleanUp(session, { keepsRam: true });
      return;
    }
    const otherwise = this.#context.confinement.wasOutOfMemory(this.name) ? 'out-of-memory' : 'lost';
    const { reason, isClean } = judgeEnd({ shutdownReason, rung: this.rung, exit: { code, signal }, otherwise });
    const exit: VmExit = { at: new Date().toISOString(), reason, code, signal, stderrTail: this.#lastWords() };
    const { stop, process } = this.#record;
    const isByHand = stop !== undefined || this.rung !== undefined;
    const ranMs = process === undefined ? 0 : ageOf(process);
    const wasAwake = !SLEEP_STATES.includes(this.#state);
    const restarts = this.#plan({ isClean: isClean && wasAwake, isByHand, ranMs });
    this.#session = undefined;
    this.apply(isClean ? 'exit-clean' : 'exit-unexpected', { reason, code, signal });
    this.#record = { ...this.#record, ...this.#atRest(), state: isClean && wasAwake ? 'stopped' : 'crashed', exit, restarts };
    this.#tellPlan(restarts);
    this.#cleaned = this.#cleanUp(session, { keepsRam: false });
    this.#hooks.onRest();
  }

  /** What the record of a VM without a guest does not have. */
  #atRest(): Partial<VmRecord> {
    const gone = { process: undefined, stop: undefined, suspension: undefined, unpluggedVsock: undefined };
    return { spec: wholeSpec(this.#record), ready: false, ...gone };
  }

  async #release({ keepsRam }: { readonly keepsRam: boolean }): Promise<void> {
    const { store, confinement, logger } = this.#context;
    await releaseHostDevices(this.name, store.paths(this.name), { logger, keepsRam });
    await confinement.leave(this.name);
    await store.removeRunDir(this.name);
  }

  async #cleanUp(session: Session, kept: { readonly keepsRam: boolean }): Promise<void> {
    try {
      await failpoint('stop.process-ended');
      // Of one that was saved the record says all that matters; that its process is gone is seen.
      if (!kept.keepsRam) await this.saveIfPossible({});
      await failpoint('stop.end-recorded');
      await session.device?.[Symbol.asyncDispose]();
      await this.#release(kept);
      await failpoint('stop.cleaned');
    } catch (error) {
      this.#context.logger.error({ vm: this.name, error: toFairleadError(error).message }, 'could not clean up after a VM');
    }
  }

  #plan(end: { isClean: boolean; isByHand: boolean; ranMs: number }): DueRestart | undefined {
    const { spec, restarts: before } = this.#record;
    return planRestart({ policy: spec.restart, before, now: Date.now(), ...end });
  }

  #tellPlan(plan: DueRestart | undefined): void {
    if (plan === undefined) return;
    const delayMs = waitOf(plan.dueAt, Date.now());
    this.tell('vm.restart-scheduled', { attempt: plan.attempts, delayMs, isCrashLoop: isCrashLoop(plan) });
  }

  #lastWords(): string {
    return tailOf(this.#context.store.paths(this.name).qemuLog, { from: this.#record.process?.logOffset ?? 0 });
  }
}
