/**
 * The sleep of one VM: its suspends and resumes as commands of its supervisor, which calls them in turn and in the right state, and what a
 * new agent makes of one that was cut short.
 *
 *     record says     and there is                     then
 *     suspending      its process                      the guest goes on there: running
 *                     none                             it is lost: crashed
 *     suspended       a process, or none               the process is ended; suspended
 *                     another boot of the host since   with durability host: suspended; else it is lost: crashed
 *     resuming        its process                      the guest goes on there: running
 *                     none                             it is lost: crashed
 *
 * `suspended` is in the record with all that is needed to go on (suspension.ts), and goes out of it before the guest runs again. So of one
 * state the guest goes on at most once, whoever dies when.
 */
import { rm } from 'node:fs/promises';
import { FairleadError, toFairleadError } from '../../../shared/errors.ts';
import type { VmSpec } from '../../../shared/protocol/vm-spec.ts';
import { failpoint } from '../../failpoint.ts';
import { buildArgs } from '../argv/build-args.ts';
import type { CallOptions } from '../common.ts';
import { Deadline } from '../deadline.ts';
import { attachVsock } from '../devices/vsock.ts';
import { findHostDevices } from '../host/host-devices.ts';
import { type LaunchContext, launch } from '../launch.ts';
import type { PreparedSave, VmLife } from '../life.ts';
import type { CommandLimits, LiveVm } from '../live-vm.ts';
import { inputOfRunState } from '../qemu-events.ts';
import { checkFiles } from '../spec-check.ts';
import { endAtOnce, LADDER_TIMES, type LadderTimes } from '../stop-ladder.ts';
import type { ProcessRecord, VmRecord } from '../store.ts';
import { cpusOf } from './abi-here.ts';
import { ignoreSharedRam } from './device-state.ts';
import { type GuestAbi, guestAbiOf } from './guest-abi.ts';
import type { MachineFacts } from './incoming.ts';
import { incomingOf } from './resume.ts';
import { requireSuspendable, saveGuest, unplugVsock, unsaveGuest } from './suspend.ts';
import { type Durability, wholeSpec } from './suspension.ts';
import { UntilCommitted } from './until-committed.ts';

export interface SleepContext extends LaunchContext {
  readonly ladderTimes?: LadderTimes | undefined;
  /** On versions of QEMU, too, on which it was not tested. */
  readonly untestedSuspend?: boolean | undefined;
  /** Sets the clock of a guest by its agent. Rejects where it does not hear. */
  readonly setClock?: ((vm: LiveVm, limits: CommandLimits) => Promise<unknown>) | undefined;
}

export interface SleeperOptions {
  readonly context: SleepContext;
  readonly life: VmLife;
  /** @throws FairleadError where there is no process. */
  readonly live: () => LiveVm;
}

/** An agent that finds a guest half way does the rest within this time, or leaves it to the next one. */
const RECOVER_MS = 60_000;
const REPLUG_MS = 15_000;
const CLOCK_MS = 10_000;

export class Sleeper {
  readonly #options: SleeperOptions;
  /** The vsock is of an agent that died before the guest had dialled. */
  #vsockIsUnsure = false;

  constructor(options: SleeperOptions) {
    this.#options = options;
  }

  /** The guest had a vsock before it slept, and is to get one. */
  get owesVsock(): boolean {
    const { spec, unpluggedVsock } = this.#options.life.record;
    return unpluggedVsock !== undefined && (spec.vsock === undefined || this.#vsockIsUnsure);
  }

  /**
   * From `running`. Whatever fails or is cancelled before the guest is saved, it goes on. Asked last before anything is done, `isWanted` may
   * say that nothing shall be: from then on, whoever comes finds it asleep and waits.
   * @throws FairleadError UNSUPPORTED, CONFLICT, GUEST_UNRESPONSIVE, QMP_FAILED; PROCESS_FAILED for a process that does not end afterwards.
   */
  async suspend(durability: Durability, deadline: Deadline, isWanted = (): boolean => true): Promise<void> {
    const { context, life, live } = this.#options;
    const startedAt = performance.now();
    const vm = live();
    await requireSuspendable(vm, { durability, isUntestedAllowed: context.untestedSuspend === true, limits: deadline });
    await failpoint('suspend.begun');
    if (!isWanted()) return;
    life.apply('suspend');
    try {
      await life.save({ state: 'suspending' });
      await failpoint('suspend.recorded');
      const suspension = await saveGuest(vm, {
        durability,
        bootId: context.bootId,
        owner: context.confinement.guardOf(vm.name).user,
        deadline,
        abiOf: (spec, facts) => this.#abiOf(vm, spec, facts),
        onUnplug: () => life.save({ unpluggedVsock: vm.spec.vsock }),
      });
      await failpoint('suspend.saved');
      // Without a process by now it has crashed, and is not taken back from that.
      vm.signal.throwIfAborted();
      life.isGuestSaved = true;
      await life.save({ state: 'suspended', suspension });
    } catch (error) {
      await this.#goOn(vm);
      throw error;
    }
    life.apply('suspended');
    await failpoint('suspend.committed');
    await this.#endProcess();
    await failpoint('suspend.process-ended');
    const deviceStateBytes = life.record.suspension?.deviceState.bytes ?? 0;
    context.observer?.onSuspended?.({ durationMs: performance.now() - startedAt, deviceStateBytes });
  }

  /**
   * From `suspended`. Until its commit point whatever fails or is cancelled leaves it so; from there on the guest goes on, whoever has given it
   * up meanwhile. @throws FairleadError
   */
  async resume(caller: Deadline): Promise<void> {
    const { context, life } = this.#options;
    const startedAt = performance.now();
    await this.#endProcess();
    const { record, name } = life;
    const { suspension } = record;
    if (suspension === undefined) throw new FairleadError('INTERNAL', `VM ${name} is suspended and its record does not say how`);
    await checkFiles(record.spec);
    await failpoint('resume.begun');
    life.apply('wake');
    using limits = new UntilCommitted(`resuming VM ${name}`, caller);
    const spec = wholeSpec(record);
    const owed = record.spec.vsock === undefined ? record.unpluggedVsock : undefined;
    let prepared: PreparedSave | undefined;
    let forgotten: Promise<void> | undefined;
    const prepare = async (process: ProcessRecord, generation: number): Promise<void> => {
      const has = process.vsock === undefined ? record.spec : spec;
      prepared = await life.prepare({ state: 'resuming', process, generation, suspension: undefined, spec: has });
    };
    const commit = async (): Promise<void> => {
      if (prepared === undefined) throw new FairleadError('INTERNAL', `the resume of VM ${name} was not prepared`);
      limits.commit();
      await prepared.save();
      // Beside the rest: the guest runs before it is gone.
      forgotten = this.#forgetState();
      forgotten.catch(() => {});
    };
    try {
      const { version: qemuVersion } = await context.probe.qemu();
      const paths = context.store.paths(name);
      const incoming = await incomingOf({
        vm: name,
        suspension,
        paths,
        qemuVersion,
        isUntestedAllowed: context.untestedSuspend === true,
        prepare,
        commit,
        owed,
        spec,
        logger: context.logger,
      });
      const save = (): Promise<void> => Promise.resolve();
      const { deadline } = limits;
      life.own(await launch(context, { record, save, handlers: life.handlers(), deadline, incoming }));
    } catch (error) {
      await prepared?.drop();
      if (limits.isCommitted) await life.foundDead({ shutdownReason: undefined, otherwise: 'lost', at: new Date() });
      else life.apply('wake-failed');
      throw error;
    }
    life.apply('resume');
    // An agent that finds it `resuming` lets it go on as well.
    life.saveSoon({ state: 'running', ...(life.session?.device === undefined ? this.#withoutVsock(record.spec) : {}) });
    await failpoint('resume.running');
    await this.#awake(forgotten);
    context.observer?.onResumed?.({ durationMs: performance.now() - startedAt });
  }

  /** The guest is given up. From `suspended`. */
  async discard(): Promise<void> {
    const { life } = this.#options;
    await this.#endProcess();
    await life.discard();
  }

  /** Once the agent has taken over the VM. Never rejects: what cannot be done is logged, and tried by the next one who wants the VM. */
  async recover(leaving: AbortSignal): Promise<void> {
    const { life, live, context } = this.#options;
    const { record, name } = life;
    if (life.session === undefined) return;
    try {
      if (record.unpluggedVsock !== undefined) this.#vsockIsUnsure = true;
      if (record.state === 'suspending') await this.#goOn(live());
      else if (record.state === 'resuming') await this.#finishResume({ timeoutMs: RECOVER_MS, signal: leaving });
      else await this.giveVsockBack();
    } catch (error) {
      if (leaving.aborted) return;
      context.logger.error(
        { vm: name, error: toFairleadError(error).message },
        'could not let a VM go on after its sleep was cut short',
      );
    }
  }

  /**
   * Where the guest has let go of its vsock and has not got one since. The record keeps that until the guest has dialled (life.ts): a device
   * that an agent has plugged in and left may be dialled by the next one too soon, and be lost for good, so that one gives it another.
   * @throws FairleadError what attachVsock throws, GUEST_UNRESPONSIVE.
   */
  async giveVsockBack(): Promise<void> {
    const { life, live, context } = this.#options;
    const { unpluggedVsock: vsock } = life.record;
    if (vsock === undefined) return;
    const vm = live();
    using deadline = new Deadline(`giving VM ${vm.name} its vsock back`, { timeoutMs: REPLUG_MS, signal: vm.signal });
    if (vm.spec.vsock !== undefined && this.#vsockIsUnsure) await unplugVsock(vm, { deadline, onUnplug: async () => {} });
    const checkPolicy = async (): Promise<void> => context.checkSpec?.(vm.spec);
    if (vm.spec.vsock === undefined) await attachVsock(vm, vsock, { deadline, checkPolicy });
    this.#vsockIsUnsure = false;
    if (vsock.readyPort === undefined) await life.save({ unpluggedVsock: undefined });
  }

  async #abiOf({ paths, process }: LiveVm, spec: VmSpec, facts: MachineFacts): Promise<GuestAbi> {
    const { tscKhz, confinement } = this.#options.context;
    const devices = await findHostDevices(spec, paths, confinement.user);
    const vsock = spec.vsock === undefined ? undefined : ({ cid: 0, backend: { kind: 'vhost-vsock' } } as const);
    const argv = buildArgs(spec, { ...facts, uuid: '', sandbox: false, tscKhz, vsock, devices, paths });
    return guestAbiOf(argv, await cpusOf(process.qemuVersion));
  }

  /** After a suspend that failed, or was cut short. Never rejects. */
  async #goOn(vm: LiveVm): Promise<void> {
    const { life, context } = this.#options;
    const wasSaved = life.isGuestSaved;
    life.isGuestSaved = false;
    if (vm.signal.aborted) {
      // It ended when it could have been done without, but then the record could not be written.
      if (wasSaved) await life.foundDead({ shutdownReason: undefined, otherwise: 'lost', at: new Date() });
      return;
    }
    try {
      await unsaveGuest(vm);
    } catch (error) {
      const { message } = toFairleadError(error);
      context.logger.error(
        { vm: vm.name, error: message },
        'a VM that was not suspended may stay paused: its QEMU does not answer',
      );
    }
    life.apply('suspend-failed');
    await life.saveIfPossible({ state: 'running', suspension: undefined });
    await this.#tellRunState(vm);
    await this.#replug();
  }

  /** A guest that stopped for another reason meanwhile is told so. */
  async #tellRunState(vm: LiveVm): Promise<void> {
    const limits = { signal: vm.signal, remainingMs: REPLUG_MS };
    const { status } = await vm.execute('query-status', {}, limits).catch(() => ({ status: 'running' }));
    this.#options.life.apply(inputOfRunState(status), {});
  }

  /** It could not be plugged in: the next who wants it tries again. */
  #withoutVsock(spec: VmSpec): Partial<VmRecord> {
    const { process } = this.#options.life.record;
    return { spec, process: process && { ...process, vsock: undefined } };
  }

  async #finishResume(options: CallOptions): Promise<void> {
    const { life, live } = this.#options;
    const vm = live();
    using deadline = new Deadline(`letting VM ${vm.name} go on`, options);
    if (life.state !== 'running') await vm.execute('cont', {}, deadline);
    life.apply('resume');
    life.saveLater({ state: 'running' });
    await life.session?.measureMemory().catch(() => {});
    await this.#awake();
  }

  async #awake(forgotten = this.#forgetState()): Promise<void> {
    await forgotten;
    void this.#takeRamAlong();
    await this.#replug();
    void this.#setClock();
  }

  /** Used up: nobody is to find in it what the guest knew. */
  #forgetState(): Promise<void> {
    const { context, life } = this.#options;
    return rm(context.store.paths(life.name).deviceState, { force: true });
  }

  /** In a migration that somebody else begins in this process; each of ours says for itself. Best effort. */
  async #takeRamAlong(): Promise<void> {
    const { life, live, context } = this.#options;
    const { session } = life;
    if (session === undefined) return;
    try {
      await ignoreSharedRam(live(), false, { signal: session.signal, remainingMs: REPLUG_MS });
    } catch (error) {
      if (session.signal.aborted) return;
      const { message } = toFairleadError(error);
      context.logger.warn({ vm: life.name, error: message }, 'a migration of a VM that is begun by hand would leave out its RAM');
    }
  }

  /** A VM that cannot be reached runs all the same; the next one who wants to reach it tries again. */
  async #replug(): Promise<void> {
    const { life, context } = this.#options;
    try {
      await this.giveVsockBack();
    } catch (error) {
      const { message } = toFairleadError(error);
      context.logger.error({ vm: life.name, error: message }, 'could not give a VM its vsock back');
    }
  }

  /** It stood still while the guest slept. Best effort, beside everything else: the guest may have no agent, or a slow one. */
  async #setClock(): Promise<void> {
    const { life, live, context } = this.#options;
    if (context.setClock === undefined || life.record.spec.guestAgent === undefined || life.session === undefined) return;
    try {
      using deadline = new Deadline(`setting the clock of VM ${life.name}`, { timeoutMs: CLOCK_MS, signal: life.session.signal });
      await context.setClock(live(), deadline);
    } catch (error) {
      context.logger.warn({ vm: life.name, error: toFairleadError(error).message }, 'could not set the clock of a VM that slept');
    }
  }

  /** Of a guest that is saved. @throws FairleadError PROCESS_FAILED */
  async #endProcess(): Promise<void> {
    const { life, context } = this.#options;
    const { session } = life;
    if (session !== undefined) {
      // QEMU has let go of its images with the save; whatever it would do now is for nobody.
      await endAtOnce({ ...session.process, vm: life.name }, context.ladderTimes ?? LADDER_TIMES);
      await session.ended;
    }
    await life.cleaned;
  }
}
