/**
 * The agent put together: the one place that knows all its parts. Nothing here reads argv, the environment or signals (main.ts does), so
 * that an agent can also run inside another program.
 *
 *     idle ─ start ─► starting ─► running ─ stop ─► stopping ─► stopped
 *                        └─────── fails ───────────────────────────┘
 *
 * The line is dialled first and everything else is made meanwhile: calls that come early wait for the VMs to be adopted. Neither the
 * absence of the hub nor that of QEMU or vsock keeps an agent from running; `/readyz` tells of it. Stopping leaves every VM as it is.
 */
import { access, constants, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { toFairleadError } from '../shared/errors.ts';
import { VERSION } from '../shared/node/version.ts';
import { parseParams } from '../shared/protocol/validate.ts';
import type { VmState } from '../shared/protocol/vm.ts';
import type { VmSpec } from '../shared/protocol/vm-spec.ts';
import { type AgentConfig, defaultRamDir, parseHttpListen } from './config.ts';
import { Upkeep } from './desired/upkeep.ts';
import { VmsInHand } from './desired/vms-in-hand.ts';
import { type ReadinessCheck, reasonOf } from './http/readiness.ts';
import { type HttpEndpoint, serveHttp } from './http/server.ts';
import { ImagesOnDemand } from './images/on-demand.ts';
import { directoryFiles, type JournalFiles } from './journal/files.ts';
import { Journal } from './journal/journal.ts';
import { Link, type LinkStatus, type PlayedNetwork } from './link/link.ts';
import { Dispatcher } from './rpc/dispatcher.ts';
import { fenceKeeper } from './rpc/fence-keeper.ts';
import { allHandlers } from './rpc/handlers/all.ts';
import type { Handlers } from './rpc/handlers/types.ts';
import { Once } from './rpc/once.ts';
import { Policy } from './rpc/policy.ts';
import { lookAt, reconcilerOf } from './rpc/reconcile.ts';
import { deviceReconcilers } from './rpc/reconcile-devices.ts';
import { MEMORY_RECONCILERS } from './rpc/reconcile-memory.ts';
import { MIGRATION_RECONCILERS } from './rpc/reconcile-migration.ts';
import { snapshotReconcilers } from './rpc/reconcile-snapshot.ts';
import { SUSPEND_RECONCILERS } from './rpc/reconcile-suspend.ts';
import { updateReconcilers } from './rpc/reconcile-update.ts';
import { StreamOpener } from './rpc/stream-open.ts';
import type { TextFile } from './rpc/text-file.ts';
import { becomeSoleAgent } from './sole-agent.ts';
import { chooseTransport } from './streams/choose.ts';
import { Telemetry } from './telemetry.ts';
import type { LauncherLine } from './update/launcher-line.ts';
import { updatesOnDemand } from './update/on-demand.ts';
import type { UpdaterOptions } from './update/updater.ts';
import type { Updates } from './update/updates.ts';
import type { CallOptions, HostVsock, Logger, Vms } from './vm/api.ts';
import { DeviceOperations } from './vm/devices/device-operations.ts';
import { Guests } from './vm/guest-agent/guests.ts';
import { parseGuestService } from './vm/guest-ports/guest-service.ts';
import { Snapshots, type SnapshotsOptions } from './vm/snapshot/snapshots.ts';

export interface AgentOptions {
  readonly config: AgentConfig;
  readonly logger: Logger;
  /** Where programs are looked for, as in PATH. */
  readonly searchPath: string;
  /** Told of each change of the line's state. Must not throw. */
  readonly onLink?: ((status: LinkStatus) => void) | undefined;
  /** Told when memory was needed that is needed no more: a part was loaded, a VM has ended. Must not throw. */
  readonly onSpent?: (() => void) | undefined;
  /** For tests and simulated hosts: instead of the real VM manager. */
  readonly openVms?: ((vsock: HostVsock) => Promise<Vms>) | undefined;
  readonly network?: PlayedNetwork | undefined;
  /** Where its commands are kept, instead of files of its own. */
  readonly disk?: { readonly journal: JournalFiles; readonly fences: TextFile } | undefined;
  readonly updates?: Updates | undefined;
  /** Who has started this agent and could start another release of it. */
  readonly launcher?: LauncherLine | undefined;
}

export interface Agent extends AsyncDisposable {
  readonly link: LinkStatus;
  /** Where the HTTP endpoint listens, once started: `http://127.0.0.1:7081`, `unix:/path`, or undefined when it is off. */
  readonly httpAddress: string | undefined;
  /** VMs whose records this agent cannot read. */
  readonly brokenVms: readonly string[];
  /** What keeps it from its work for the hub; undefined when nothing does. A host without QEMU is fit. */
  whyUnfit(): Promise<string | undefined>;
  /** Settles when VMs are adopted and the endpoint listens; the line may take longer. Rejects when the host's own state is in the way. */
  start(): Promise<void>;
  /** Idempotent. VMs go on. */
  stop(): Promise<void>;
}

export function createAgent(options: AgentOptions): Agent {
  return new FairleadAgent(options);
}

class FairleadAgent implements Agent {
  readonly #options: AgentOptions;
  readonly #link: Link;
  readonly #telemetry: Telemetry;
  readonly #policy: Policy;
  readonly #journal: Journal;
  readonly #vms = Promise.withResolvers<Vms>();
  readonly #scope = new AsyncDisposableStack();
  #adopted: Vms | undefined;
  #vsock: HostVsock | undefined;
  #once: Once | undefined;
  #http: HttpEndpoint | undefined;
  #starting: Promise<void> | undefined;
  #stopped: Promise<void> | undefined;
  /** The hub has asked something, and this agent has answered. */
  #hasAnswered = false;

  constructor(options: AgentOptions) {
    this.#options = options;
    const { config, logger } = options;
    const policy = new Policy(config);
    this.#policy = policy;
    const telemetry = new Telemetry({
      link: () => this.#link.status,
      vms: () => this.#adopted?.list() ?? [],
      limitedBy: () => this.#adopted?.limitedBy ?? [],
      journal: () => this.#journal.usage,
      onLoaded: () => options.onSpent?.(),
    });
    this.#telemetry = telemetry;
    this.#journal = new Journal({
      files: options.disk?.journal ?? directoryFiles(join(config.stateDir, 'journal')),
      observer: telemetry.journal,
      logger,
      limits: { maxOperations: config.journalCommands, maxBytes: config.journalBytes },
    });
    // Whoever needs the VMs is told of a failure; if nobody does, `start` tells it.
    this.#vms.promise.catch(() => {});
    const vms = this.#vms.promise;
    let dispatcher: Dispatcher | undefined;
    const making = vms.then((vms) => {
      const guests = this.#scope.use(new Guests(vms, logger));
      void guests.takeUp();
      const checkPolicy = async (spec: VmSpec): Promise<void> => {
        await policy.checkSpec(spec);
        await vms.checkFiles(spec);
      };
      const devices = this.#scope.use(new DeviceOperations({ vms, logger, checkPolicy }));
      devices.watch();
      const snapshots = this.#openSnapshots(vms, guests, checkPolicy);
      const images = this.#openImages(vms);
      const updates = options.updates ?? this.#openUpdates(images);
      const inHand = new VmsInHand({ journal: this.#journal });
      const once = this.#takeUpCommands(vms, devices, snapshots, updates, inHand);
      const { stateDir } = config;
      const upkeep: Upkeep = this.#scope.use(new Upkeep(() => ({ stateDir, vms, handlers, policy, logger, inHand })));
      const handlers: Handlers = allHandlers(vms, policy, guests, once, devices, snapshots, images, upkeep, updates);
      void upkeep.takeUp();
      dispatcher = new Dispatcher({ handlers, policy, observer: telemetry, once });
      return dispatcher;
    });
    making.catch(() => {});
    const opener = new StreamOpener({ vms, policy, observer: telemetry, logger });
    this.#link = new Link({
      config,
      logger,
      network: options.network,
      service: {
        // What comes before the VMs are adopted waits for it.
        onRequest: async (method, params, context) => {
          const answer = await (dispatcher ?? (await making)).request(method, params, context);
          this.#hasAnswered = true;
          return answer;
        },
        onOpen: (stream, meta, session) => opener.open(stream, meta, session),
      },
      onState: (status) => options.onLink?.(status),
      onAttempt: (result) => telemetry.connectEnded(result),
    });
  }

  get link(): LinkStatus {
    return this.#link.status;
  }

  get httpAddress(): string | undefined {
    return this.#http?.address;
  }

  get brokenVms(): readonly string[] {
    return this.#adopted?.broken.map(({ name }) => name) ?? [];
  }

  async whyUnfit(): Promise<string | undefined> {
    for (const check of this.#checks()) {
      const reason = check.name === 'qemu' ? undefined : await reasonOf(check);
      if (reason !== undefined) return `${check.name}: ${reason}`;
    }
    return this.#hasAnswered ? undefined : 'link: the hub has asked nothing yet';
  }

  start(): Promise<void> {
    this.#starting ??= this.#start();
    return this.#starting;
  }

  stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  async #start(): Promise<void> {
    const { config } = this.#options;
    try {
      await mkdir(config.stateDir, { recursive: true, mode: 0o700 });
      await mkdir(config.runDir, { recursive: true, mode: 0o700 });
      this.#scope.use(await becomeSoleAgent(config.stateDir));
      this.#scope.defer(() => leaveRamDir(config));
      this.#link.start();
      await Promise.all([this.#adopt(), this.#serve()]);
    } catch (error) {
      this.#vms.reject(error);
      await this.stop();
      throw error;
    }
  }

  async #adopt(): Promise<void> {
    const { config, logger, searchPath, openVms } = this.#options;
    const { vsock: want, vhostDeviceVsock: daemon } = config;
    const vsock = await chooseTransport({ want, daemon, path: searchPath, logger });
    if (!vsock.available) logger.warn({ reason: vsock.reason }, 'no vsock on this host');
    this.#vsock = vsock;
    const vms = await (openVms === undefined ? this.#openManager(vsock) : openVms(vsock));
    this.#scope.use(vms);
    this.#scope.use(
      vms.events.listen((event) => {
        this.#link.notify('vm.event', event);
        if (isAsleepOrEnded(event.state)) this.#options.onSpent?.();
      }),
    );
    this.#adopted = vms;
    this.#vms.resolve(vms);
  }

  async #openManager(vsock: HostVsock): Promise<Vms> {
    const { config, logger } = this.#options;
    const { stateDir, runDir, ramDir, untestedSuspend, maxVms, maxStreamsPerVm, labels, qemuBinary } = config;
    const { VmManager } = await import('./vm/manager.ts');
    return VmManager.open({
      stateDir,
      runDir,
      ramDir,
      ramDirIsDefault: ramDir === defaultRamDir(stateDir),
      untestedSuspend,
      vsock,
      logger,
      limits: { maxVms, maxStreamsPerVm },
      // rpc/policy.ts has decided before a call comes here, by patterns that this list has no notion of.
      policy: { qmpCommands: ['*'], accelerators: config.accelerators, checkSpec: (spec) => this.#policy.checkSpec(spec) },
      agentVersion: VERSION,
      labels,
      qemuBinary,
      observer: this.#telemetry,
      guestServices: config.vsockServices.flatMap((text) => parseGuestService(text) ?? []),
      confinement: {
        user: config.qemuUser,
        group: config.qemuGroup,
        cgroup: config.cgroup,
        memoryOverheadBytes: config.memoryOverhead,
        oomScoreAdj: config.oomScoreAdj,
        maxCpus: config.maxCpus,
        maxMemoryBytes: config.maxMemory,
      },
    });
  }

  #openSnapshots(vms: Vms, guests: Guests, checkPolicy: (spec: VmSpec) => Promise<void>): Snapshots {
    const { config, logger } = this.#options;
    const seedGuest: SnapshotsOptions['seedGuest'] = async (...clone) =>
      (await import('./vm/guest-agent/seed-guest.ts')).seedGuest(guests, ...clone);
    const setClock = (vm: string, options: CallOptions) =>
      guests.setTime(parseParams('guest.setTime', { vm, answerTimeoutMs: options.timeoutMs }), options);
    const nameGuest: SnapshotsOptions['nameGuest'] = async (...clone) =>
      (await import('./vm/guest-agent/name-guest.ts')).nameGuest(guests, ...clone);
    const vsockKind = this.#vsock?.available === true ? this.#vsock.transport.kind : undefined;
    const { snapshotDir: directory, untestedSuspend } = config;
    const observer = this.#telemetry;
    const introduction = { seedGuest, setClock, nameGuest };
    return new Snapshots({ vms, directory, checkPolicy, vsockKind, ...introduction, untestedSuspend, logger, observer });
  }

  #openImages(vms: Vms): ImagesOnDemand {
    const { config, logger } = this.#options;
    const { stateDir, snapshotDir, maxImageBytes } = config;
    return this.#scope.use(
      new ImagesOnDemand({
        vms,
        stateDir,
        // Snapshots, and what this host is to keep running.
        recordDirectories: [snapshotDir, join(stateDir, 'desired.json')],
        maxImageBytes,
        logger,
        openAtHub: (meta, signal) => this.#link.openStream(meta, signal),
      }),
    );
  }

  #openUpdates(images: ImagesOnDemand): Updates {
    const { launcher, config } = this.#options;
    const { releaseKeys } = config;
    const pull: UpdaterOptions['pull'] = async (digest, options) => (await (await images.get()).pull({ digest }, options)).path;
    return updatesOnDemand({ launcher, releaseKeys, pull, brokenVms: () => this.brokenVms });
  }

  /** What the last agent left under way is settled now, and not when the first command waits for it. */
  #takeUpCommands(vms: Vms, devices: DeviceOperations, snapshots: Snapshots, updates: Updates, inHand: VmsInHand): Once {
    const { config, logger } = this.#options;
    const look = (vm: string) => lookAt(vms, vm);
    const reconcile = reconcilerOf(vms, {
      ...deviceReconcilers(devices),
      ...snapshotReconcilers(snapshots),
      ...MEMORY_RECONCILERS,
      ...MIGRATION_RECONCILERS,
      ...SUSPEND_RECONCILERS,
      ...updateReconcilers(updates),
    });
    const admit = fenceKeeper(config.stateDir, this.#options.disk?.fences);
    const take = (vm: string): Disposable => inHand.take(vm);
    const once = new Once({ journal: this.#journal, host: config.host, logger, look, reconcile, admit, take });
    this.#once = once;
    once.prepare().catch((error: unknown) => {
      logger.error({ error: toFairleadError(error).message }, 'no command can be taken: the journal is not usable');
    });
    return once;
  }

  async #serve(): Promise<void> {
    const listen = parseHttpListen(this.#options.config.httpListen) ?? 'off';
    if (listen === 'off') return;
    const loadApp = async () => {
      const { createApp } = await import('./http/app.ts');
      this.#options.onSpent?.();
      return createApp({
        checks: this.#checks(),
        metrics: () => this.#telemetry.metrics(),
        isOnLoopback: !('path' in listen),
      });
    };
    this.#http = this.#scope.use(await serveHttp(loadApp, listen));
    this.#options.logger.info({ address: this.#http.address }, 'health and metrics are served');
  }

  async #stop(): Promise<void> {
    await this.#link.stop(this.#options.config.drainTimeout);
    await this.#once?.close();
    await this.#scope.disposeAsync();
  }

  /** The readiness of the host for its hub. None of it is a reason to restart the agent. */
  #checks(): ReadinessCheck[] {
    const { stateDir } = this.#options.config;
    return [
      { name: 'shutdown', run: () => (this.#stopped === undefined ? undefined : 'the agent is stopping') },
      { name: 'link', run: () => linkReason(this.#link.status) },
      { name: 'state-dir', run: () => access(stateDir, constants.W_OK).then(() => undefined) },
      { name: 'vms', run: () => (this.#adopted === undefined ? 'VMs are being adopted' : undefined) },
      { name: 'qemu', run: () => this.#qemuReason() },
      { name: 'journal', run: () => this.#journal.open().then(() => undefined) },
    ];
  }

  async #qemuReason(): Promise<string | undefined> {
    const info = await this.#adopted?.hostInfo();
    if (info === undefined) return 'not looked for yet';
    return info.qemu.available ? undefined : (info.qemu.reason ?? 'not found');
  }
}

/** One that somebody else has made is theirs. */
async function leaveRamDir({ stateDir, ramDir }: AgentConfig): Promise<void> {
  if (ramDir !== defaultRamDir(stateDir)) return;
  const { leaveRamDirectory } = await import('./vm/snapshot/ram-directory.ts');
  await leaveRamDirectory(ramDir);
}

function isAsleepOrEnded(state: VmState): boolean {
  return state === 'stopped' || state === 'crashed' || state === 'suspended';
}

function linkReason({ state, hub, lastError, retryInMs }: LinkStatus): string | undefined {
  if (state === 'up') return undefined;
  const next = retryInMs === undefined ? '' : `; next attempt in ${retryInMs} ms`;
  return `${state}, hub ${hub}${lastError === undefined ? '' : `: ${lastError}`}${next}`;
}
