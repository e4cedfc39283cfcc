/**
 * All VMs of this host. Finds the one that a call means and hands the call to its supervisor; itself it only creates, lists and forgets.
 */
import { randomUUID } from 'node:crypto';
import { totalmem } from 'node:os';
import { join } from 'node:path';
import { FairleadError, toFairleadError } from '../../shared/errors.ts';
import type { Result } from '../../shared/protocol/methods.ts';
import type { HostInfo } from '../../shared/protocol/methods-host.ts';
import type { VmInfo } from '../../shared/protocol/vm.ts';
import type { VmSpec } from '../../shared/protocol/vm-spec.ts';
import type {
  BrokenVm,
  CallOptions,
  HostVsock,
  Logger,
  LogSource,
  OpenedStream,
  VmLimits,
  VmObserver,
  VmPolicy,
  Vms,
} from './api.ts';
import { buildArgs } from './argv/build-args.ts';
import { Confinement, type ConfinementSettings } from './confinement/confinement.ts';
import { Deadline, orAborted, settledWithin } from './deadline.ts';
import { EventStore } from './event-store.ts';
import { EVENT_CAPACITY, EventLog } from './events.ts';
import { setGuestClock } from './guest-agent/set-clock.ts';
import { shutdownGuest } from './guest-agent/shutdown.ts';
import { GuestPorts } from './guest-ports/guest-ports.ts';
import type { GuestService } from './guest-ports/guest-service.ts';
import { requireOwnVars } from './host/firmware-vars.ts';
import { findHostDevices, releaseHostDevices } from './host/host-devices.ts';
import { hostInfo, readBootId, readTscKhz } from './host/host-info.ts';
import { HostProbe } from './host/host-probe.ts';
import type { LiveVm, Operation, RestingVm } from './live-vm.ts';
import { type LogInUse, LogKeeper } from './logs/log-keeper.ts';
import type { Restoration } from './snapshot/incoming.ts';
import { collectRam } from './snapshot/ram-directory.ts';
import type { FileOwner } from './snapshot/ram-file.ts';
import type { Durability } from './snapshot/suspension.ts';
import { checkFiles, checkHostMemory, checkSpec } from './spec-check.ts';
import type { LadderTimes } from './stop-ladder.ts';
import { type VmPaths, VmStore } from './store.ts';
import { StrayProcesses } from './strays.ts';
import { Supervisor, type SupervisorContext } from './supervisor.ts';
import { tellLate } from './untold.ts';

export interface VmManagerOptions {
  readonly stateDir: string;
  /** For sockets: short, and emptied by a restart of the host. */
  readonly runDir: string;
  readonly vsock: HostVsock;
  readonly logger: Logger;
  readonly limits: VmLimits;
  readonly policy: VmPolicy;
  readonly agentVersion: string;
  readonly labels: Readonly<Record<string, string>>;
  /** For the RAM of guests whose spec wants it in files. Default: `ram` in the state directory. */
  readonly ramDir?: string | undefined;
  /** It is the default one, which the agent makes, cleans at its start, and removes. */
  readonly ramDirIsDefault?: boolean | undefined;
  /** Suspends on versions of QEMU, too, on which they were not tested. */
  readonly untestedSuspend?: boolean | undefined;
  /** Where the host's QEMU is not in PATH, or another one shall be used. */
  readonly qemuBinary?: string | undefined;
  readonly observer?: VmObserver | undefined;
  readonly ladderTimes?: LadderTimes | undefined;
  /** Whom VMs run as and what they may take. Default: as the agent, all there is. */
  readonly confinement?: ConfinementSettings | undefined;
  /** Services of the host that guests may dial. Default: none. */
  readonly guestServices?: readonly GuestService[] | undefined;
}

/** A proof that does not succeed ends by itself within 3 s. */
const PROBE_END_MS = 5_000;

/** An agent is of use before the last QEMU has answered. */
const ADOPTION_MS = 1_000;

/** What a dry run shows where a start would make something fresh. */
const DRY_RUN = { uuid: '00000000-0000-0000-0000-000000000000', cid: 3 } as const;

export class VmManager implements Vms {
  readonly events: EventLog;
  readonly #eventStore: EventStore;
  readonly #options: VmManagerOptions;
  readonly #context: SupervisorContext;
  readonly #vms = new Map<string, Supervisor>();
  /** Names that are being created. */
  readonly #reserved = new Set<string>();
  readonly #broken = new Map<string, BrokenVm>();
  readonly #leaving = new AbortController();
  readonly #logs: LogKeeper;
  /** Never rejects. */
  #probing: Promise<unknown> = Promise.resolve();

  private constructor(options: VmManagerOptions, confinement: Confinement) {
    const { stateDir, logger, qemuBinary, vsock, limits, ladderTimes, observer, policy } = options;
    const bootId = readBootId();
    this.#options = options;
    this.#eventStore = new EventStore({ directory: join(stateDir, 'events'), bootId, capacity: EVENT_CAPACITY, logger });
    this.events = new EventLog({ sink: this.#eventStore });
    this.#context = {
      store: new VmStore(options),
      probe: new HostProbe({ stateDir, bootId, qemuBinary, accelerators: policy.accelerators, user: confinement.user, logger }),
      confinement,
      vsock,
      bootId,
      tscKhz: readTscKhz(),
      logger,
      observer,
      guestPorts: new GuestPorts({
        services: options.guestServices ?? [],
        maxStreamsPerVm: limits.maxStreamsPerVm,
        logger,
      }),
      checkSpec: async (spec) => {
        await requireOwnVars(spec, this.#inUseBeside(spec.name));
        await policy.checkSpec?.(spec);
      },
      events: this.events,
      limits,
      ladderTimes,
      untestedSuspend: options.untestedSuspend,
      shutdownGuest: (vm, limits) => shutdownGuest(vm, limits),
      setClock: (vm, limits) => setGuestClock(vm, limits),
    };
    this.#logs = new LogKeeper({ paths: () => this.#growingLogs(), logger });
  }

  /** What the other VMs are made of that run or sleep. */
  #inUseBeside(name: string): VmSpec[] {
    const records = [...this.#vms.values()].map(({ record }) => record);
    return records
      .filter(({ spec, process, state }) => spec.name !== name && (process !== undefined || state === 'suspended'))
      .map(({ spec }) => spec);
  }

  /** Of the VMs that have a process. */
  #growingLogs(): string[] {
    const running = [...this.#vms.values()].filter((vm) => vm.record.process !== undefined);
    return running.flatMap(({ name }) => {
      const { consoleLog, qemuLog, trail, runDir } = this.#context.store.paths(name);
      return [consoleLog, qemuLog, trail, join(runDir, 'vsock.log')];
    });
  }

  /** Reads every VM of the state directory and takes over those that run. Probing the host goes on in the background. */
  static async open(options: VmManagerOptions): Promise<VmManager> {
    const manager = new VmManager(options, await Confinement.open(options.confinement ?? {}, options.logger));
    await manager.#adoptAll();
    manager.#probing = manager.#context.probe.kvm();
    return manager;
  }

  get limitedBy(): readonly string[] {
    const { cgroups } = this.#context.confinement;
    return cgroups.available ? cgroups.tree.controllers : [];
  }

  get guestPorts(): GuestPorts {
    return this.#context.guestPorts;
  }

  get fileOwner(): FileOwner | undefined {
    return this.#context.confinement.user;
  }

  checkFiles(spec: VmSpec): Promise<void> {
    return this.#context.confinement.checkFiles(spec);
  }

  get broken(): readonly BrokenVm[] {
    return [...this.#broken.values()];
  }

  async create(spec: VmSpec, options: CallOptions = {}): Promise<VmInfo> {
    using deadline = new Deadline(`creating VM ${spec.name}`, options);
    const { signal } = deadline;
    checkSpec(spec);
    this.#context.confinement.checkSize(spec);
    using _ = this.#reserve(spec.name);
    await orAborted(Promise.all([checkFiles(spec), this.#checkHost(spec)]), signal);
    const createdAt = new Date().toISOString();
    const record = { version: 1, uuid: randomUUID(), spec, createdAt, generation: 0, state: 'created', ready: false } as const;
    await this.#context.store.create(record);
    const vm = new Supervisor(this.#context, record);
    this.#vms.set(spec.name, vm);
    vm.announce();
    return vm.info();
  }

  async run(spec: VmSpec, options: CallOptions = {}): Promise<VmInfo> {
    const startedAt = performance.now();
    await this.create(spec, options);
    const { timeoutMs, signal } = options;
    const leftMs = timeoutMs === undefined ? undefined : Math.max(0, timeoutMs - (performance.now() - startedAt));
    try {
      return await this.start(spec.name, { signal, ...(leftMs === undefined ? {} : { timeoutMs: leftMs }) });
    } catch (error) {
      await this.delete(spec.name, { force: true });
      throw error;
    }
  }

  async start(name: string, options: CallOptions = {}): Promise<VmInfo> {
    return this.#find(name).start(options);
  }

  get(name: string): VmInfo {
    return this.#find(name).info();
  }

  list(): VmInfo[] {
    const infos = [...this.#vms.values()].map((vm) => vm.info());
    return infos.sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  async pause(name: string, options: CallOptions = {}): Promise<VmInfo> {
    return this.#find(name).pause(options);
  }

  async resume(name: string, options: CallOptions = {}): Promise<VmInfo> {
    return this.#find(name).resume(options);
  }

  async restore(name: string, prepare: (paths: VmPaths) => Promise<Restoration>, options: CallOptions = {}): Promise<VmInfo> {
    return this.#find(name).restore(prepare, options);
  }

  async suspend(name: string, options: CallOptions & { readonly durability: Durability }): Promise<Result<'vm.suspend'>> {
    return this.#find(name).suspend(options);
  }

  async hold(name: string, options: CallOptions & { readonly forMs: number }): Promise<Result<'vm.hold'>> {
    return this.#find(name).hold(options);
  }

  async reset(name: string, options: CallOptions = {}): Promise<VmInfo> {
    return this.#find(name).reset(options);
  }

  async powerdown(name: string, options: CallOptions = {}): Promise<VmInfo> {
    return this.#find(name).powerdown(options);
  }

  async stop(name: string, options: CallOptions & { readonly graceMs?: number | undefined } = {}): Promise<Result<'vm.stop'>> {
    return this.#find(name).stop(options);
  }

  async delete(name: string, options: CallOptions & { readonly force?: boolean | undefined } = {}): Promise<void> {
    if (options.force === true && this.#broken.has(name)) return this.#deleteBroken(name);
    const vm = this.#find(name);
    await vm.delete(options);
    // Not if another VM has got the name meanwhile.
    if (this.#vms.get(name) !== vm) return;
    this.#vms.delete(name);
    this.guestPorts.forget(name);
  }

  async qmp(
    name: string,
    command: { execute: string; arguments?: Record<string, unknown> | undefined },
    options: CallOptions = {},
  ): Promise<unknown> {
    const vm = this.#find(name);
    const allowed = this.#options.policy.qmpCommands;
    if (!allowed.includes('*') && !allowed.includes(command.execute)) {
      const how = 'the policy of this host (policy.qmpCommands) does not name it';
      throw new FairleadError('PERMISSION_DENIED', `QMP command ${command.execute} may not be sent to VM ${name}: ${how}`);
    }
    return await vm.qmp(command.execute, command.arguments, options);
  }

  async operate<T>(
    name: string,
    operation: Operation,
    options: CallOptions,
    run: (vm: LiveVm, deadline: Deadline) => Promise<T>,
  ): Promise<T> {
    return this.#find(name).operate(operation, options, run);
  }

  async atRest<T>(
    name: string,
    doing: string,
    options: CallOptions,
    run: (vm: RestingVm, deadline: Deadline) => Promise<T>,
  ): Promise<T> {
    return this.#find(name).atRest(doing, options, run);
  }

  async args(target: { vm: string } | { spec: VmSpec }, options: CallOptions = {}): Promise<Result<'vm.args'>> {
    const vm = 'vm' in target ? this.#find(target.vm) : undefined;
    const process = vm?.record.process;
    if (process !== undefined) return { binary: process.binary, argv: process.argv };
    using deadline = new Deadline('building a command line', options);
    const spec = 'spec' in target ? target.spec : this.#find(target.vm).record.spec;
    checkSpec(spec);
    return orAborted(this.#dryRun(spec, vm?.record.uuid ?? DRY_RUN.uuid), deadline.signal);
  }

  capabilities(name: string): Result<'vm.capabilities'> {
    return this.#find(name).capabilities();
  }

  async openStream(
    { vm, ...target }: { vm: string; port: number; connectTimeoutMs: number },
    { signal }: { readonly signal?: AbortSignal | undefined } = {},
  ): Promise<OpenedStream> {
    return this.#find(vm).openStream(target, signal);
  }

  async openLog(name: string, source: LogSource): Promise<LogInUse> {
    const { consoleLog, qemuLog } = this.#context.store.paths(this.#find(name).name);
    return this.#logs.open(source === 'console' ? consoleLog : qemuLog);
  }

  async hostInfo(options: CallOptions = {}): Promise<HostInfo> {
    using deadline = new Deadline('telling of the host', options);
    const { agentVersion, labels } = this.#options;
    return orAborted(hostInfo({ ...this.#context, agentVersion, labels }), deadline.signal);
  }

  async close(): Promise<void> {
    await Promise.all([...this.#vms.values()].map((vm) => vm.close()));
    this.#leaving.abort();
    this.guestPorts[Symbol.dispose]();
    this.#logs[Symbol.dispose]();
    this.#eventStore[Symbol.dispose]();
    // What it finds out is written into the state directory, which belongs to the next agent from here on.
    await settledWithin(this.#probing, PROBE_END_MS);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #adoptAll(): Promise<void> {
    const { store, logger } = this.#context;
    for (const stored of await store.open()) {
      if (stored.kind === 'vm') {
        this.#vms.set(stored.name, new Supervisor(this.#context, stored.record));
        continue;
      }
      this.#broken.set(stored.name, { name: stored.name, reason: stored.reason });
      logger.error({ vm: stored.name, reason: stored.reason }, 'left a broken VM alone');
    }
    await this.#collectRam();
    tellLate(this.events, [...this.#vms.values()], new Set(this.#broken.keys()));
    await this.#takeOver();
  }

  async #collectRam(): Promise<void> {
    const { ramDir, ramDirIsDefault = false, stateDir, logger } = this.#options;
    if (ramDir === undefined || !ramDirIsDefault) return;
    await collectRam({ ramDir, stateDir, logger }, new Set([...this.#vms.keys(), ...this.#broken.keys()]));
  }

  /** Each VM is taken over beside the others; one whose QEMU does not answer soon holds up its own commands alone. */
  async #takeOver(): Promise<void> {
    const { store, logger } = this.#context;
    const strays = await StrayProcesses.look();
    const left = (await store.runDirs()).filter(({ name }) => !this.#vms.has(name) && !this.#broken.has(name));
    const clearing = left.map(async ({ name, path }) => {
      await strays.endDaemonsIn(path);
      await store.removeRunDir(name);
    });
    const adopting = [...this.#vms.values()].map(async (vm) => {
      try {
        await vm.adopt(strays, this.#leaving.signal);
      } catch (error) {
        logger.error({ vm: vm.name, error: toFairleadError(error).message }, 'could not adopt a VM');
      }
    });
    await Promise.all(clearing);
    await settledWithin(Promise.all(adopting), ADOPTION_MS);
  }

  #find(name: string): Supervisor {
    const vm = this.#vms.get(name);
    if (vm !== undefined) return vm;
    const broken = this.#broken.get(name);
    const why =
      broken === undefined
        ? ''
        : `: its record is broken (${broken.reason}); mend it and start the agent again, or delete with force`;
    throw new FairleadError('NOT_FOUND', `this host has no VM ${name}${why}`, { details: { vm: name } });
  }

  /** It may run all the same. */
  async #deleteBroken(name: string): Promise<void> {
    const { store, confinement, logger } = this.#context;
    const paths = store.paths(name);
    await (await StrayProcesses.look()).endUnrecorded(paths);
    await releaseHostDevices(name, paths, { logger, keepsRam: false });
    await confinement.leave(name);
    await store.remove(name);
    this.#broken.delete(name);
  }

  /** Holds the name, and a place among the VMs of this host, for as long as the creation takes. */
  #reserve(name: string): Disposable {
    if (this.#vms.has(name) || this.#reserved.has(name) || this.#broken.has(name)) {
      throw new FairleadError('CONFLICT', `this host has a VM ${name} already`, { details: { vm: name } });
    }
    const { maxVms } = this.#options.limits;
    if (this.#vms.size + this.#reserved.size >= maxVms) {
      throw new FairleadError(
        'LIMIT_EXCEEDED',
        `this host has ${maxVms} VMs, the most that are allowed: delete one, or raise limits.maxVms`,
      );
    }
    this.#reserved.add(name);
    return { [Symbol.dispose]: () => this.#reserved.delete(name) };
  }

  /** @throws FairleadError UNSUPPORTED or LIMIT_EXCEEDED for what this host cannot do, before anything is made. */
  async #checkHost(spec: VmSpec): Promise<void> {
    const { name, machine, accelerator, vsock } = spec;
    const { probe } = this.#context;
    checkHostMemory(spec, totalmem());
    await Promise.all([probe.machine(machine), accelerator === 'auto' ? undefined : probe.accelerator(accelerator)]);
    if (vsock === undefined || this.#options.vsock.available) return;
    throw new FairleadError('UNSUPPORTED', `VM ${name} wants a vsock and this host has none: ${this.#options.vsock.reason}`);
  }

  async #dryRun(spec: VmSpec, uuid: string): Promise<Result<'vm.args'>> {
    const { probe, store, vsock, tscKhz, confinement } = this.#context;
    const [qemu, accelerator, machine] = await Promise.all([
      probe.qemu(),
      probe.accelerator(spec.accelerator),
      probe.machine(spec.machine),
    ]);
    const paths = store.paths(spec.name);
    // A host without a transport shows what one with vhost-vsock would run.
    const backend = vsock.available ? vsock.transport.backendIn(paths.runDir) : ({ kind: 'vhost-vsock' } as const);
    const device = spec.vsock === undefined ? undefined : { cid: DRY_RUN.cid, backend };
    const devices = await findHostDevices(spec, paths, confinement.user);
    const argv = buildArgs(spec, { uuid, accelerator, machine, sandbox: qemu.sandbox, tscKhz, vsock: device, devices, paths });
    return { binary: qemu.binary, argv };
  }
}
