/**
 * A VM that is only played: the states and events of a real one (agent/vm/machine.ts), and no process. What is asked of it takes its
 * time or fails as the script of the simulation says, one command after another as with a real one.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { FairleadError } from '../../shared/errors.ts';
import type { Result } from '../../shared/protocol/methods.ts';
import type { VmInfo, VmState } from '../../shared/protocol/vm.ts';
import type { VmEventType } from '../../shared/protocol/vm-events.ts';
import type { VmSpec } from '../../shared/protocol/vm-spec.ts';
import type { CallOptions } from '../vm/api.ts';
import { CommandQueue } from '../vm/command-queue.ts';
import { Deadline } from '../vm/deadline.ts';
import type { EventLog } from '../vm/events.ts';
import type { RestingVm } from '../vm/live-vm.ts';
import { GUEST_STATES, REST_STATES, requireState, transition, type VmInput } from '../vm/machine.ts';
import type { Durability } from '../vm/snapshot/suspension.ts';
import type { HostFaults } from './script.ts';

export interface SimVmContext {
  readonly faults: HostFaults;
  readonly events: EventLog;
  /** Milliseconds since the fleet's start. */
  readonly now: () => number;
  /** Of commands that ended, well or not; for the fleet's figures. */
  readonly onOperation: (ok: boolean) => void;
}

/** Bytes that a suspend says it has written. */
const DEVICE_STATE_BYTES = 256 * 1024;
const EXIT = { reason: 'host-qmp-quit', code: 0, signal: null } as const;

export class SimVm {
  #spec: VmSpec;
  readonly #context: SimVmContext;
  readonly #queue = new CommandQueue();
  readonly #uuid = randomUUID();
  readonly #createdAt = new Date().toISOString();
  #state: VmState = 'created';
  #generation = 0;
  #startedAt: string | undefined;
  #suspended: VmInfo['suspended'];
  #isDeleted = false;

  constructor(spec: VmSpec, context: SimVmContext) {
    this.#spec = spec;
    this.#context = context;
    this.#tell('vm.created', {});
  }

  get spec(): VmSpec {
    return this.#spec;
  }

  get info(): VmInfo {
    const { spec } = this;
    const isThere = GUEST_STATES.includes(this.#state);
    return {
      name: spec.name,
      uuid: this.#uuid,
      state: this.#state,
      ready: isThere && spec.vsock?.readyPort !== undefined,
      generation: this.#generation,
      labels: spec.labels,
      createdAt: this.#createdAt,
      ...(this.#startedAt === undefined ? {} : { startedAt: this.#startedAt }),
      ...(isThere ? { accelerator: 'tcg', memory: { actualBytes: spec.memory.bytes } } : {}),
      ...(this.#suspended === undefined ? {} : { suspended: this.#suspended }),
      spec,
    };
  }

  /** A host that has just been made has its VMs already: without waiting, and without a fault. */
  startAtOnce(): void {
    this.#begin();
  }

  /** As far as it needs no files. */
  async atRest<T>(doing: string, options: CallOptions, run: (vm: RestingVm, deadline: Deadline) => Promise<T>): Promise<T> {
    const { name } = this.#spec;
    requireState(name, this.#state, REST_STATES, `do this (${doing}) at rest to`);
    using deadline = new Deadline(`${doing} VM ${name}`, options);
    return await run(
      {
        name,
        spec: this.#spec,
        get paths(): never {
          throw new FairleadError('UNSUPPORTED', `VM ${name} is simulated and has no files`);
        },
        changeSpec: async (spec) => {
          this.#spec = spec;
        },
      },
      deadline,
    );
  }

  start(options: CallOptions): Promise<VmInfo> {
    return this.#command('vm.start', REST_STATES, options, () => this.#begin());
  }

  pause(options: CallOptions): Promise<VmInfo> {
    return this.#command('vm.pause', ['running', 'paused'], options, () => this.#apply('pause', {}));
  }

  resume(options: CallOptions): Promise<VmInfo> {
    return this.#command('vm.resume', [...GUEST_STATES, 'suspended'], options, () => this.#wake());
  }

  reset(options: CallOptions): Promise<VmInfo> {
    return this.#command('vm.reset', GUEST_STATES, options, () => this.#apply('reset', { guest: false }));
  }

  powerdown(options: CallOptions): Promise<VmInfo> {
    return this.#command('vm.powerdown', ['running'], options, () => this.#end());
  }

  async suspend({ durability, ...options }: CallOptions & { durability: Durability }): Promise<Result<'vm.suspend'>> {
    const vm = await this.#command('vm.suspend', ['running', 'suspended'], options, () => {
      if (this.#state === 'suspended') return;
      this.#apply('suspend', {});
      this.#suspended = { at: new Date().toISOString(), durability, deviceStateBytes: DEVICE_STATE_BYTES };
      this.#apply('suspended', {});
    });
    return { vm };
  }

  async hold({ forMs, ...options }: CallOptions & { forMs: number }): Promise<Result<'vm.hold'>> {
    const vm = await this.#command('vm.hold', [...GUEST_STATES, 'suspended'], options, () => this.#wake());
    return { vm, until: new Date(Date.now() + forMs).toISOString() };
  }

  async stop(options: CallOptions): Promise<Result<'vm.stop'>> {
    let endedBy: Result<'vm.stop'>['endedBy'] = 'already-stopped';
    const vm = await this.#command('vm.stop', [...REST_STATES, ...GUEST_STATES, 'suspended'], options, () => {
      if (REST_STATES.includes(this.#state)) return;
      endedBy = this.#state === 'suspended' ? 'discarded' : 'guest';
      this.#end();
    });
    return { vm, endedBy };
  }

  async delete({ force = false, ...options }: CallOptions & { force?: boolean | undefined }): Promise<void> {
    await this.#command('vm.delete', force ? undefined : REST_STATES, options, () => {
      this.#end();
      this.#isDeleted = true;
      this.#tell('vm.deleted', {});
    });
  }

  /** In its turn, after its time; what happens to the VM happens at the end of that, or not at all. */
  async #command(
    method: string,
    states: readonly VmState[] | undefined,
    options: CallOptions,
    happen: () => void,
  ): Promise<VmInfo> {
    const { faults, now, onOperation } = this.#context;
    using deadline = new Deadline(`${method} of VM ${this.spec.name}`, options);
    const { signal } = deadline;
    try {
      return await this.#queue.run(signal, async () => {
        if (this.#isDeleted) throw new FairleadError('NOT_FOUND', `VM ${this.spec.name} was deleted`);
        if (states !== undefined) requireState(this.spec.name, this.#state, states, `do this (${method}) to`);
        const { delayMs, error } = faults.next(method, now(), this.#spec.labels);
        await sleep(delayMs, undefined, { signal }).catch(() => signal.throwIfAborted());
        if (error !== undefined) throw error;
        happen();
        onOperation(true);
        return this.info;
      });
    } catch (error) {
      onOperation(false);
      throw error;
    }
  }

  #begin(): void {
    this.#apply('start', {});
    this.#generation += 1;
    this.#startedAt = new Date().toISOString();
    this.#apply('resume', {});
  }

  #wake(): void {
    if (this.#state === 'suspended') {
      this.#generation += 1;
      this.#apply('wake', {});
    }
    this.#suspended = undefined;
    this.#apply('resume', {});
  }

  #end(): void {
    this.#suspended = undefined;
    if (this.#state === 'suspended') return this.#apply('discard', { ...EXIT, reason: 'discarded' });
    this.#apply('stop', { reason: 'requested' });
    this.#apply('exit-clean', EXIT);
  }

  /** What says nothing new in this state is left out, as with a real VM. */
  #apply(input: VmInput, data: object): void {
    const next = transition(this.#state, input);
    if (next === undefined) return;
    this.#state = next.state;
    if (next.event !== undefined) this.#tell(next.event, data);
  }

  #tell(type: VmEventType, data: object): void {
    const event = { vm: this.spec.name, type, state: this.#state, data: { generation: this.#generation, ...data } };
    // SAFETY: each type is told with the data that vm-events.ts says it has: by the callers of #apply, and test/unit/sim.test.ts checks all.
    this.#context.events.append(event as Parameters<EventLog['append']>[0]);
  }
}
