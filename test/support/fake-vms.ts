/** VMs that are only said to be there: for tests of what stands before the VM manager. */
import { PassThrough } from 'node:stream';
import * as v from 'valibot';
import type { OpenedStream, Vms } from '../../agent/vm/api.ts';
import { EventLog } from '../../agent/vm/events.ts';
import { GuestPorts } from '../../agent/vm/guest-ports/guest-ports.ts';
import { FairleadError } from '../../shared/errors.ts';
import type { VmInfo, VmState } from '../../shared/protocol/vm.ts';
import { VmSpec } from '../../shared/protocol/vm-spec.ts';
import { silent } from './vm.ts';

export function fakeVmInfo(name: string, state: VmState = 'running'): VmInfo {
  return {
    name,
    uuid: '00000000-0000-0000-0000-000000000000',
    state,
    ready: false,
    generation: 1,
    labels: {},
    createdAt: '2026-01-01T00:00:00.000Z',
    spec: v.parse(VmSpec, { name }),
  };
}

/** Calls are recorded; every VM named here exists, every stream is an echo. What a test needs otherwise it overrides. */
export class FakeVms implements Vms {
  readonly events = new EventLog();
  readonly broken = [];
  readonly limitedBy: readonly string[] = [];
  readonly guestPorts = new GuestPorts({ services: [], maxStreamsPerVm: 16, logger: silent });

  readonly fileOwner = undefined;

  async checkFiles(): Promise<void> {}
  readonly calls: unknown[][] = [];
  readonly infos: VmInfo[];
  closed = false;

  constructor(names: readonly string[] = ['web'], overrides: Partial<Vms> = {}) {
    this.infos = names.map((name) => fakeVmInfo(name));
    Object.assign(this, overrides);
  }

  create: Vms['create'] = async (spec) => this.#record('create', spec) ?? fakeVmInfo(spec.name, 'created');
  run: Vms['run'] = async (spec) => this.#record('run', spec) ?? fakeVmInfo(spec.name);
  start: Vms['start'] = async (name) => this.#record('start', name) ?? this.get(name);
  pause: Vms['pause'] = async (name) => this.#record('pause', name) ?? this.get(name);
  resume: Vms['resume'] = async (name) => this.#record('resume', name) ?? this.get(name);
  restore: Vms['restore'] = async (name) => this.#record('restore', name) ?? this.get(name);
  suspend: Vms['suspend'] = async (name, { durability }) => this.#record('suspend', name, durability) ?? { vm: this.get(name) };
  hold: Vms['hold'] = async (name, { forMs }) =>
    this.#record('hold', name, forMs) ?? { vm: this.get(name), until: '2026-01-01T00:00:00.000Z' };
  reset: Vms['reset'] = async (name) => this.#record('reset', name) ?? this.get(name);
  powerdown: Vms['powerdown'] = async (name) => this.#record('powerdown', name) ?? this.get(name);
  stop: Vms['stop'] = async (name, options) =>
    this.#record('stop', name, options?.graceMs) ?? { vm: this.get(name), endedBy: 'guest' };
  delete: Vms['delete'] = async (name, options) => this.#record('delete', name, options?.force);
  qmp: Vms['qmp'] = async (name, command) => this.#record('qmp', name, command.execute) ?? { status: 'running' };
  args: Vms['args'] = async (target) => this.#record('args', target) ?? { binary: '/qemu', argv: [] };

  operate: Vms['operate'] = async (name, { doing }) => {
    this.#record('operate', name, doing);
    throw new FairleadError('UNSUPPORTED', 'a fake VM has no QEMU process');
  };

  atRest: Vms['atRest'] = async (name, doing) => {
    this.#record('atRest', name, doing);
    throw new FairleadError('UNSUPPORTED', 'a fake VM has no files');
  };

  get(name: string): VmInfo {
    const info = this.infos.find((candidate) => candidate.name === name);
    if (info === undefined) throw new FairleadError('NOT_FOUND', `no VM ${name} on this host`);
    return info;
  }

  list(): VmInfo[] {
    return this.infos;
  }

  capabilities: Vms['capabilities'] = () => ({
    pause: true,
    snapshot: false,
    memoryHotplug: false,
    deviceHotplug: false,
    vsock: true,
    vsockHalfClose: true,
    pciPassthrough: false,
    diskThrottle: false,
    reasons: {},
  });

  openStream: Vms['openStream'] = async ({ vm, port }): Promise<OpenedStream> => {
    this.#record('openStream', vm, port);
    this.get(vm);
    return { stream: new PassThrough({ allowHalfOpen: true }), transport: 'vhost-vsock', halfClose: true, generation: 1 };
  };

  openLog: Vms['openLog'] = async (name) => {
    this.#record('openLog', name);
    throw new FairleadError('NOT_FOUND', `no VM ${name} on this host`);
  };

  hostInfo: Vms['hostInfo'] = async () => ({
    agentVersion: '0.0.0',
    contractVersion: 1,
    nodeVersion: '24.0.0',
    hostname: 'test',
    architecture: 'x64',
    kernel: '6.1',
    bootId: 'boot',
    cpus: 2,
    memoryBytes: 1,
    memoryFreeBytes: 1,
    labels: {},
    qemu: { available: true },
    kvm: { available: false, reason: 'test' },
    vsock: { available: false, reason: 'test' },
  });

  async close(): Promise<void> {
    this.closed = true;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #record(...call: unknown[]): undefined {
    this.calls.push(call);
  }
}
