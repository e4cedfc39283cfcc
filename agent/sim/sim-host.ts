/**
 * One simulated host: the agent as it is everywhere, on VMs that are played and with a network that the script can cut. Key and identity are
 * files of its own state directory; its journal is on the disk that it shares with others (shared-disk.ts).
 */
import { join } from 'node:path';
import type { WebSocket } from 'ws';
import { type Agent, createAgent } from '../agent.ts';
import { parseAgentConfig } from '../config.ts';
import { LinkError } from '../link/hub-http.ts';
import type { LinkStatus, PlayedNetwork } from '../link/link.ts';
import { FENCES_FILE } from '../rpc/fence-keeper.ts';
import type { Logger } from '../vm/api.ts';
import { HostFaults, labelsOf, type SimScript } from './script.ts';
import type { SharedDisk } from './shared-disk.ts';
import { SimUpdates } from './sim-updates.ts';
import { SimVms } from './sim-vms.ts';

/** How simulated hosts reach their hub. */
export interface HubAccess {
  readonly hub: string;
  readonly token?: string | undefined;
  readonly caFile?: string | undefined;
  readonly insecure: boolean;
  /** As the agent's setting of that name. */
  readonly maxBackoff?: string | undefined;
}

export interface SimHostOptions {
  readonly access: HubAccess;
  readonly script: SimScript;
  readonly name: string;
  /** Its place in the fleet: which zone it is in. */
  readonly index: number;
  /** Of the whole fleet; the host's is below it. */
  readonly directory: string;
  readonly disk: SharedDisk;
  /** Milliseconds since the fleet's start. */
  readonly now: () => number;
  readonly onOperation: (ok: boolean) => void;
  readonly onLink: (status: LinkStatus) => void;
}

const SILENT: Logger = { debug() {}, info() {}, warn() {}, error() {} };
/** For a host that never asks anything of QEMU. */
const FAR_TOO_MANY_VMS = 1024;

export class SimHost implements AsyncDisposable {
  readonly #faults: HostFaults;
  readonly #network: Network;
  readonly #agent: Agent;
  readonly #now: () => number;

  constructor(options: SimHostOptions) {
    const { access, script, name, index, directory, disk, now, onOperation, onLink } = options;
    const labels = labelsOf(script, index);
    const host = { name, labels };
    this.#now = now;
    this.#faults = new HostFaults(script, host);
    this.#network = new Network(() => this.#faults.isOnline(now()));
    const { maxBackoff, ...reach } = access;
    const config = parseAgentConfig({
      ...reach,
      ...(maxBackoff === undefined ? {} : { maxBackoff }),
      host: name,
      labels,
      stateDir: join(directory, name),
      httpListen: 'off',
      vsock: 'off',
      // What a spec names need not be on this machine.
      imageRoots: ['/'],
      networks: ['*'],
      qmpCommands: ['*'],
      drainTimeout: 0,
      maxVms: FAR_TOO_MANY_VMS,
    });
    const vms = new SimVms({
      host,
      count: script.vmsPerHost,
      maxVms: config.maxVms,
      faults: this.#faults,
      now,
      onOperation,
      logger: SILENT,
    });
    const openVms = async () => vms;
    const updates = new SimUpdates({ faults: this.#faults, now, onOperation });
    this.#agent = createAgent({
      config,
      logger: SILENT,
      searchPath: '',
      onLink,
      openVms,
      updates,
      network: this.#network,
      disk: { journal: disk.filesOf(name), fences: disk.textOf(name, FENCES_FILE) },
    });
  }

  /** Whether `look` is of any use. */
  get hasWeather(): boolean {
    return this.#faults.hasWeather;
  }

  /** Settles when it tries for a line. @throws what the state directory has against it */
  start(): Promise<void> {
    return this.#agent.start();
  }

  /** Cuts the line where the script says so by now. */
  look(): void {
    if (!this.#faults.isOnline(this.#now())) this.#network.cut();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#agent.stop();
  }
}

class Network implements PlayedNetwork {
  readonly #isOnline: () => boolean;
  #socket: WebSocket | undefined;

  constructor(isOnline: () => boolean) {
    this.#isOnline = isOnline;
  }

  requireWay(): void {
    if (!this.#isOnline()) throw new LinkError('unreachable', 'the simulated network of this host is down');
  }

  opened(socket: WebSocket): void {
    this.#socket = socket;
    socket.once('close', () => {
      if (this.#socket === socket) this.#socket = undefined;
    });
  }

  cut(): void {
    this.#socket?.terminate();
  }
}
