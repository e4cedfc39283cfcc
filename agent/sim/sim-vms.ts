/**
 * The VMs of a simulated host: everything below `agent/vm/` that needs QEMU, played. What stands above it (handlers, journal, policy,
 * link) is the agent's own. What cannot be played says UNSUPPORTED.
 *
 * Streams are echoes. VMs live as long as this object, and so outlive an agent on top of it.
 */
import { hostname, release } from 'node:os';
import { PassThrough } from 'node:stream';
import * as v from 'valibot';
import { FairleadError } from '../../shared/errors.ts';
import { VERSION } from '../../shared/node/version.ts';
import { CONTRACT_VERSION } from '../../shared/protocol/version.ts';
import type { VmInfo } from '../../shared/protocol/vm.ts';
import { VmSpec } from '../../shared/protocol/vm-spec.ts';
import type { CallOptions, Logger, OpenedStream, Vms } from '../vm/api.ts';
import { capabilitiesOf } from '../vm/capabilities.ts';
import { EventLog } from '../vm/events.ts';
import { GuestPorts } from '../vm/guest-ports/guest-ports.ts';
import { GUEST_STATES, requireState } from '../vm/machine.ts';
import type { SimulatedHost } from './script.ts';
import { SimVm, type SimVmContext } from './sim-vm.ts';

/** Events of a host that are kept; a real one keeps more. */
const EVENT_CAPACITY = 256;
const GIB = 1024 ** 3;
const NO_VSOCK = { available: false, reason: 'the host is simulated' } as const;

export interface SimVmsOptions extends Omit<SimVmContext, 'events'> {
  readonly host: SimulatedHost;
  /** VMs that are there and run from the beginning: `vm-1`, … */
  readonly count: number;
  readonly maxVms: number;
  readonly logger: Logger;
}

export class SimVms implements Vms {
  readonly events = new EventLog({ capacity: EVENT_CAPACITY });
  readonly broken = [];
  readonly limitedBy = [];
  readonly fileOwner = undefined;
  readonly guestPorts: GuestPorts;
  readonly #options: SimVmsOptions;
  readonly #vms = new Map<string, SimVm>();

  constructor(options: SimVmsOptions) {
    this.#options = options;
    this.guestPorts = new GuestPorts({ services: [], maxStreamsPerVm: 0, logger: options.logger });
    for (let number = 1; number <= options.count; number++) this.#add(v.parse(VmSpec, { name: `vm-${number}` })).startAtOnce();
  }

  async checkFiles(): Promise<void> {}

  async create(spec: VmSpec): Promise<VmInfo> {
    const { maxVms } = this.#options;
    if (this.#vms.has(spec.name)) {
      throw new FairleadError('CONFLICT', `this host has a VM ${spec.name} already`, { details: { vm: spec.name } });
    }
    if (this.#vms.size >= maxVms) {
      throw new FairleadError('LIMIT_EXCEEDED', `this host has ${maxVms} VMs, the most that are allowed: delete one`);
    }
    return this.#add(spec).info;
  }

  async run(spec: VmSpec, options: CallOptions = {}): Promise<VmInfo> {
    await this.create(spec);
    try {
      return await this.start(spec.name, options);
    } catch (error) {
      this.#vms.delete(spec.name);
      throw error;
    }
  }

  get(name: string): VmInfo {
    return this.#find(name).info;
  }

  list(): VmInfo[] {
    const infos = [...this.#vms.values()].map((vm) => vm.info);
    return infos.sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  start: Vms['start'] = async (name, options = {}) => this.#find(name).start(options);
  pause: Vms['pause'] = async (name, options = {}) => this.#find(name).pause(options);
  resume: Vms['resume'] = async (name, options = {}) => this.#find(name).resume(options);
  suspend: Vms['suspend'] = async (name, options) => this.#find(name).suspend(options);
  hold: Vms['hold'] = async (name, options) => this.#find(name).hold(options);
  reset: Vms['reset'] = async (name, options = {}) => this.#find(name).reset(options);
  powerdown: Vms['powerdown'] = async (name, options = {}) => this.#find(name).powerdown(options);
  stop: Vms['stop'] = async (name, options = {}) => this.#find(name).stop(options);

  delete: Vms['delete'] = async (name, options = {}) => {
    const vm = this.#find(name);
    await vm.delete(options);
    if (this.#vms.get(name) === vm) this.#vms.delete(name);
  };

  restore: Vms['restore'] = async (name) => this.#notPlayed(name, 'restored from a snapshot');
  atRest: Vms['atRest'] = async (name, doing, options, run) => this.#find(name).atRest(doing, options, run);
  operate: Vms['operate'] = async (name, { doing }) => this.#notPlayed(name, `operated on (${doing})`);
  openLog: Vms['openLog'] = async (name) => this.#notPlayed(name, 'asked for a log');

  qmp: Vms['qmp'] = async (name, { execute }) => {
    const { state } = this.get(name);
    if (execute === 'query-status') return { status: state, running: state === 'running' };
    return this.#notPlayed(name, `asked ${execute} over QMP`);
  };

  args: Vms['args'] = async (target) => {
    if ('vm' in target) this.#find(target.vm);
    return { binary: '/bin/true', argv: [] };
  };

  capabilities: Vms['capabilities'] = (name) => capabilitiesOf(this.#find(name).spec, NO_VSOCK);

  openStream: Vms['openStream'] = async ({ vm }): Promise<OpenedStream> => {
    const { state, generation } = this.get(vm);
    requireState(vm, state, GUEST_STATES, 'open a stream into');
    return { stream: new PassThrough({ allowHalfOpen: true }), transport: 'vhost-user', halfClose: true, generation };
  };

  hostInfo: Vms['hostInfo'] = async () => ({
    agentVersion: VERSION,
    contractVersion: CONTRACT_VERSION,
    nodeVersion: process.versions.node,
    hostname: hostname(),
    architecture: process.arch,
    kernel: release(),
    bootId: this.events.epoch,
    cpus: 8,
    memoryBytes: 32 * GIB,
    memoryFreeBytes: 16 * GIB,
    labels: { ...this.#options.host.labels },
    qemu: { available: true, version: 'simulated', machines: [] },
    kvm: { available: false, reason: 'the host is simulated' },
    vsock: NO_VSOCK,
  });

  /** Of the agent on top; the VMs stay. */
  async close(): Promise<void> {}

  async [Symbol.asyncDispose](): Promise<void> {}

  #add(spec: VmSpec): SimVm {
    const vm = new SimVm(spec, { ...this.#options, events: this.events });
    this.#vms.set(spec.name, vm);
    return vm;
  }

  #find(name: string): SimVm {
    const vm = this.#vms.get(name);
    if (vm === undefined) throw new FairleadError('NOT_FOUND', `this host has no VM ${name}`, { details: { vm: name } });
    return vm;
  }

  #notPlayed(name: string, what: string): never {
    this.#find(name);
    throw new FairleadError('UNSUPPORTED', `VM ${name} is simulated, and cannot be ${what}`);
  }
}
