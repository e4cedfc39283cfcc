/**
 * Keeps the VMs of this host as they are to be: whenever something has changed (the desired state, a VM, the time to try again) it looks
 * at all of them, and takes the next step for each that is not as it should be, several at a time and one a VM. It needs no hub.
 *
 *     idle ──changed──▶ looking ──a step for a VM──▶ working ──done──▶ looking
 *                          └── nothing to do ──▶ idle     └──failed──▶ waiting, twice as long each time ──▶ looking
 */
import { FairleadError, toFairleadError } from '../../shared/errors.ts';
import type { DesiredState, DesiredStatus, DesiredVm } from '../../shared/protocol/methods-desired.ts';
import type { VmInfo } from '../../shared/protocol/vm.ts';
import type { Handlers } from '../rpc/handlers/types.ts';
import type { Policy } from '../rpc/policy.ts';
import type { Logger, Vms } from '../vm/api.ts';
import { decide, type Step } from './decide.ts';
import { type KeptDesired, readDesired, writeDesired } from './desired-file.ts';
import type { VmsInHand } from './vms-in-hand.ts';

const AT_ONCE = 4;
const MIN_BACKOFF_MS = 1000;
const MAX_BACKOFF_MS = 300_000;
/** A VM that ran so long before it crashed is started again at once. */
const HEALTHY_MS = 60_000;
const STEP_TIMEOUT_MS = 600_000;

export interface KeeperOptions {
  readonly stateDir: string;
  readonly vms: Pick<Vms, 'list' | 'events'>;
  /** What a call of the hub would do. */
  readonly handlers: Pick<Handlers, 'vm.create' | 'vm.start' | 'vm.stop' | 'vm.delete'>;
  readonly policy: Pick<Policy, 'checkMethod'>;
  readonly logger: Logger;
  /** VMs that are left alone, since a rollout is at them. */
  readonly inHand?: Pick<VmsInHand, 'leftAloneMs' | 'listen' | 'recall'> | undefined;
  /** Milliseconds that never go back; for tests. */
  readonly now?: (() => number) | undefined;
}

/** What the host's policy must allow for a step. */
const METHODS_OF = {
  create: ['vm.create'],
  start: ['vm.start'],
  stop: ['vm.stop'],
  remove: ['vm.stop', 'vm.delete'],
  adopt: [],
  forget: [],
  nothing: [],
  wait: [],
  conflict: [],
} as const satisfies Record<Step['do'], readonly (keyof KeeperOptions['handlers'])[]>;

/** A start that was taken here. By no clock that can be set. */
interface Start {
  readonly atMs: number;
  /** Until it crashed or was stopped; undefined while it runs. */
  ranMs: number | undefined;
}

interface Trouble {
  readonly failures: number;
  readonly untilMs: number;
  readonly reason: string;
}

export class DesiredKeeper implements AsyncDisposable {
  readonly #options: KeeperOptions;
  readonly #working = new Map<string, Promise<void>>();
  readonly #troubles = new Map<string, Trouble>();
  /** Of each VM the last: of one that has no process nobody else tells how long it ran. */
  readonly #starts = new Map<string, Start>();
  readonly #stop = new AbortController();
  readonly #listener: Disposable;
  #kept: KeptDesired;
  #writing: Promise<void> = Promise.resolve();
  #timer: NodeJS.Timeout | undefined;
  #isDue = false;

  private constructor(options: KeeperOptions, kept: KeptDesired) {
    this.#options = options;
    this.#kept = kept;
    options.inHand?.listen(() => this.#wake());
    this.#listener = options.vms.events.listen(({ vm, type }) => {
      if (type === 'vm.crashed' || type === 'vm.stopped') this.#ended(vm);
      this.#wake();
    });
  }

  /** @throws FairleadError STORAGE_FAILED */
  static async open(options: KeeperOptions): Promise<DesiredKeeper> {
    const { inHand, logger } = options;
    await inHand?.recall().catch((error: unknown) => {
      const why = toFairleadError(error).message;
      logger.warn({ error: why }, `desired state: which VMs a rollout has in hand cannot be told: ${why}`);
    });
    const keeper = new DesiredKeeper(options, await readDesired(options.stateDir));
    keeper.#wake();
    return keeper;
  }

  /** @throws FairleadError CONFLICT for a generation that is not newer, unless it is the very same; STORAGE_FAILED */
  async set(state: DesiredState): Promise<DesiredStatus> {
    const { generation } = this.#kept.state;
    const isSame = generation === state.generation && JSON.stringify(this.#kept.state) === JSON.stringify(state);
    if (state.generation <= generation && !isSame) {
      const message = `desired state of generation ${state.generation} came after that of generation ${generation}: an older one is not obeyed`;
      throw new FairleadError('CONFLICT', message, { details: { generation } });
    }
    if (!isSame) await this.#write((kept) => ({ ...kept, state }));
    this.#troubles.clear();
    this.#wake();
    return this.status();
  }

  status(): DesiredStatus {
    const { generation, hold, vms } = this.#kept.state;
    return { generation, hold, vms: vms.map((desired) => this.#statusOf(desired)) };
  }

  /** VMs stay as they are. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new FairleadError('INTERRUPTED', 'the agent is stopping'));
    this.#listener[Symbol.dispose]();
    clearTimeout(this.#timer);
    await Promise.allSettled([...this.#working.values(), this.#writing]);
  }

  #wake(): void {
    if (this.#isDue || this.#stop.signal.aborted) return;
    this.#isDue = true;
    setImmediate(() => {
      this.#isDue = false;
      this.#look();
    });
  }

  #look(): void {
    const { state, owned } = this.#kept;
    if (state.hold || this.#stop.signal.aborted) return;
    const desired = new Map(state.vms.map((vm) => [vm.spec.name, vm]));
    const actual = this.#actual();
    for (const name of this.#names()) {
      if (this.#working.size >= AT_ONCE) return;
      if (this.#working.has(name) || this.#isTooSoon(name) || this.#inHandMs(name) > 0) continue;
      const step = decide(desired.get(name), actual.get(name), owned[name]);
      if (step.do === 'nothing' || step.do === 'wait' || step.do === 'conflict') continue;
      const worked = this.#work(name, step, desired.get(name), actual.get(name)).finally(() => {
        this.#working.delete(name);
        this.#wake();
      });
      this.#working.set(name, worked);
    }
    this.#setTimer();
  }

  /** Never rejects. */
  async #work(name: string, step: Step, desired: DesiredVm | undefined, actual: VmInfo | undefined): Promise<void> {
    const { logger } = this.#options;
    this.#minding(name, step, actual);
    try {
      logger.info({ vm: name, step: step.do }, `desired state: ${step.do} VM ${name}`);
      await this.#take(name, step, desired, actual);
      if (step.do === 'start') this.#starts.set(name, { atMs: this.#now(), ranMs: undefined });
      if (step.do !== 'start' && step.do !== 'create') this.#troubles.delete(name);
    } catch (error) {
      if (this.#stop.signal.aborted) return;
      const { code, message } = toFairleadError(error);
      const { untilMs } = this.#hold(name, message);
      logger.warn({ vm: name, step: step.do, code, untilMs }, `desired state: could not ${step.do} VM ${name}: ${message}`);
    }
  }

  async #take(name: string, step: Step, desired: DesiredVm | undefined, actual: VmInfo | undefined): Promise<void> {
    const { handlers, policy } = this.#options;
    for (const method of METHODS_OF[step.do]) policy.checkMethod(method);
    const { signal } = this.#stop;
    const context = { signal, cancellation: signal, timeoutMs: STEP_TIMEOUT_MS, progress: () => {} };
    const graceMs = desired?.graceMs ?? 30_000;
    switch (step.do) {
      case 'create': {
        if (desired === undefined) return;
        const { uuid } = await handlers['vm.create']({ spec: desired.spec }, context);
        return await this.#own(name, uuid);
      }
      case 'adopt':
        return await this.#own(name, actual?.uuid);
      case 'start':
        return void (await handlers['vm.start']({ vm: name }, context));
      case 'stop':
        return void (await handlers['vm.stop']({ vm: name, graceMs }, context));
      case 'remove':
        await handlers['vm.stop']({ vm: name, graceMs }, context);
        // Whoever deleted it meanwhile may have made another of its name.
        if (this.#actual().get(name)?.uuid === actual?.uuid) await handlers['vm.delete']({ vm: name, force: false }, context);
        return await this.#own(name, undefined);
      case 'forget':
        return await this.#own(name, undefined);
    }
  }

  async #own(name: string, uuid: string | undefined): Promise<void> {
    await this.#write(({ state, owned }) => {
      const others = Object.entries(owned).filter(([vm]) => vm !== name);
      return { state, owned: Object.fromEntries(uuid === undefined ? others : [...others, [name, uuid]]) };
    });
  }

  /** One after the other, each on what the one before has left. */
  #write(change: (kept: KeptDesired) => KeptDesired): Promise<void> {
    const written = this.#writing.then(async () => {
      const next = change(this.#kept);
      await writeDesired(this.#options.stateDir, next);
      this.#kept = next;
    });
    this.#writing = written.catch(() => {});
    return written;
  }

  /** A VM that crashes as soon as it is started is not started without end. */
  #minding(name: string, step: Step, actual: VmInfo | undefined): void {
    const start = this.#starts.get(name);
    // A start that fails is none that the VM has run since.
    this.#starts.delete(name);
    if (step.do !== 'start' || actual?.state !== 'crashed') return;
    // Started by somebody else, or another keeper: it has this one attempt.
    if (start === undefined) return;
    const { ranMs = this.#now() - start.atMs } = start;
    if (ranMs > HEALTHY_MS) this.#troubles.delete(name);
    else this.#hold(name, `it crashed ${Math.round(ranMs / 1000)} s after it was started`);
  }

  #ended(name: string): void {
    const start = this.#starts.get(name);
    if (start !== undefined) start.ranMs ??= this.#now() - start.atMs;
  }

  #now(): number {
    return (this.#options.now ?? (() => performance.now()))();
  }

  #hold(name: string, reason: string): Trouble {
    const failures = (this.#troubles.get(name)?.failures ?? 0) + 1;
    const waitMs = Math.min(MAX_BACKOFF_MS, MIN_BACKOFF_MS * 2 ** (failures - 1));
    const trouble = { failures, untilMs: this.#now() + waitMs, reason };
    this.#troubles.set(name, trouble);
    return trouble;
  }

  #isTooSoon(name: string): boolean {
    return (this.#troubles.get(name)?.untilMs ?? 0) > this.#now();
  }

  #inHandMs(name: string): number {
    return this.#options.inHand?.leftAloneMs(name) ?? 0;
  }

  /** Of the VMs that are to be here, and of those that were and are to go. */
  #names(): string[] {
    const { state, owned } = this.#kept;
    return [...new Set([...state.vms.map(({ spec }) => spec.name), ...Object.keys(owned)])];
  }

  #setTimer(): void {
    clearTimeout(this.#timer);
    const now = this.#now();
    const troubled = [...this.#troubles.values()].map(({ untilMs }) => untilMs - now);
    const inHand = this.#names().map((name) => this.#inHandMs(name));
    const nextMs = Math.min(...[...troubled, ...inHand].filter((ms) => ms > 0));
    if (Number.isFinite(nextMs)) this.#timer = setTimeout(() => this.#wake(), nextMs + 1).unref();
  }

  #statusOf(desired: DesiredVm): DesiredStatus['vms'][number] {
    const vm = desired.spec.name;
    const { state, owned } = this.#kept;
    if (state.hold) return { vm, upkeep: 'held' };
    const trouble = this.#troubles.get(vm);
    if (this.#working.has(vm)) return { vm, upkeep: 'working' };
    const step = decide(desired, this.#actual().get(vm), owned[vm]);
    if (step.do === 'nothing') return { vm, upkeep: 'ok' };
    if (step.do === 'conflict') return { vm, upkeep: 'conflict', reason: step.reason };
    if (step.do === 'wait') return { vm, upkeep: 'waiting', reason: step.reason };
    if (this.#inHandMs(vm) > 0) return { vm, upkeep: 'waiting', reason: 'a rollout has it in hand' };
    return trouble === undefined ? { vm, upkeep: 'working' } : { vm, upkeep: 'waiting', reason: trouble.reason };
  }

  #actual(): ReadonlyMap<string, VmInfo> {
    return new Map(this.#options.vms.list().map((vm) => [vm.name, vm]));
  }
}
