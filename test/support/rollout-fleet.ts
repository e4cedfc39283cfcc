/**
 * Hosts of a rollout without lines: each has VMs, a journal of the commands that it ran, and the fences that it has seen, as agents do. And hubs
 * over one store, any of which may die at any write of it.
 */

import { setTimeout as setTimeoutAsync } from 'node:timers/promises';
import { Registry } from '@prometheus-io/client';
import { type Bus, createLocalBus } from '../../hub/bus.ts';
import type { KeptCommand } from '../../hub/commands/kept-command.ts';
import type { Actuator, CommandOptions, Observation } from '../../hub/rollout/actuator.ts';
import { ROLLOUTS } from '../../hub/rollout/records.ts';
import { RolloutMetrics } from '../../hub/rollout/rollout-metrics.ts';
import { Rollouts } from '../../hub/rollout/rollouts.ts';
import { Leases } from '../../hub/store/lease.ts';
import { HOSTS } from '../../hub/store/records.ts';
import { openSqliteStore } from '../../hub/store/sqlite-store.ts';
import type { Store } from '../../hub/store/store.ts';
import { systemClock } from '../../shared/clock.ts';
import { FairleadError, type JsonObject } from '../../shared/errors.ts';
import { parseWith } from '../../shared/protocol/parse-with.ts';
import { RolloutSpec, type RolloutSpecInput } from '../../shared/protocol/rollout-spec.ts';

interface FakeVm {
  spec: JsonObject;
  state: string;
}

export class FakeHost {
  readonly name: string;
  readonly vms = new Map<string, FakeVm>();
  /** By command id: what was run, in order, once each. */
  readonly journal = new Map<
    string,
    { readonly method: string; readonly outcome: { result: unknown } | { error: FairleadError } }
  >();
  readonly fences = new Map<string, number>();
  isUp = true;
  /** How long a command takes. */
  tookMs = 0;
  /** What a method fails with from now on. */
  readonly failing = new Map<string, FairleadError>();

  constructor(name: string) {
    this.name = name;
    this.vms.set('web', { spec: { name: 'web', memory: { bytes: 1 } }, state: 'running' });
  }

  get methods(): string[] {
    return [...this.journal.values()].map(({ method }) => method);
  }

  run(method: string, params: JsonObject, { commandId, fence }: CommandOptions): unknown {
    const highest = this.fences.get(fence.scope) ?? 0;
    if (fence.epoch < highest) throw new FairleadError('FENCED', `epoch ${fence.epoch} is over`);
    this.fences.set(fence.scope, fence.epoch);
    const known = this.journal.get(commandId);
    const outcome = known?.outcome ?? this.#outcome(method, params);
    if (known === undefined) this.journal.set(commandId, { method, outcome });
    if ('error' in outcome) throw outcome.error;
    return outcome.result;
  }

  list(): JsonObject {
    const vms = [...this.vms].map(([name, { spec, state }]) => ({ name, spec, state, ready: true, labels: {} }));
    return { vms };
  }

  #outcome(method: string, params: JsonObject): { result: unknown } | { error: FairleadError } {
    const error = this.failing.get(method);
    if (error !== undefined) return { error };
    const { vm: name } = params;
    const vm = typeof name === 'string' ? this.vms.get(name) : undefined;
    if (vm === undefined) return { error: new FairleadError('NOT_FOUND', `no VM ${JSON.stringify(name)}`) };
    if (method === 'vm.stop') vm.state = 'stopped';
    if (method === 'vm.start') vm.state = 'running';
    // SAFETY: the spec of a test's own patch.
    if (method === 'vm.redefine') vm.spec = params['spec'] as JsonObject;
    return { result: {} };
  }
}

/** What a hub sees of the hosts; a hub that is dead hears nothing any more. */
class FakeLines implements Actuator {
  readonly #hosts: ReadonlyMap<string, FakeHost>;
  isDead = false;

  constructor(hosts: ReadonlyMap<string, FakeHost>) {
    this.#hosts = hosts;
  }

  isUp(name: string): boolean {
    return this.#hosts.get(name)?.isUp === true;
  }

  whenUp(): Promise<void> {
    return Promise.reject(new Error('not in this test'));
  }

  async command(name: string, method: string, params: JsonObject, options: CommandOptions): Promise<unknown> {
    if (this.isDead) return await new Promise(() => {});
    await setTimeoutAsync(this.#host(name).tookMs);
    const answer = this.#host(name).run(method, params, options);
    return this.isDead ? await new Promise(() => {}) : answer;
  }

  async ask(name: string): Promise<unknown> {
    if (this.isDead) return await new Promise(() => {});
    return this.#host(name).list();
  }

  async probe(): Promise<Observation> {
    return { answer: 'success', detail: '' };
  }

  async webhook(): Promise<Observation> {
    return { answer: 'success', detail: '' };
  }

  #host(name: string): FakeHost {
    const host = this.#hosts.get(name);
    if (host?.isUp !== true) throw new FairleadError('HOST_UNREACHABLE', `host ${name} has no line`);
    return host;
  }
}

/** When a hub dies: at which write of a journal, before it is durable or just after. */
export interface Death {
  readonly atWrite: number;
  readonly isDurable: boolean;
}

export interface FakeHub {
  readonly rollouts: Rollouts;
  readonly bus: Bus;
  /** Resolves when it has died. */
  readonly died: Promise<void>;
  readonly writes: number;
  kill(): void;
}

export const quiet = { debug() {}, info() {}, warn() {}, error() {}, child: () => quiet };

export class RolloutFleet implements AsyncDisposable {
  readonly hosts = new Map<string, FakeHost>();
  readonly store: Store = openSqliteStore(':memory:');
  /** The next write of a journal fails with it. */
  failure: FairleadError | undefined;
  /** How often a record of a rollout still cannot be changed. */
  recordFailures = 0;
  /** By how much the clocks of the hubs have been set, in milliseconds. */
  clockSetMs = 0;
  /** By how much time has gone on for the hubs beside what it took. */
  laterMs = 0;
  leaseTtlMs = 60_000;
  /** That people have given. */
  readonly commands: KeptCommand[] = [];
  /** For hosts to come back after a start of the next hub. */
  settleMs = 0;
  readonly #hubs: FakeHub[] = [];

  static async create(count: number, zones = 1): Promise<RolloutFleet> {
    const fleet = new RolloutFleet();
    for (let index = 0; index < count; index++) {
      const host = new FakeHost(`h${index}`);
      fleet.hosts.set(host.name, host);
      const labels = { zone: `z${index % zones}` };
      await fleet.store.collection(HOSTS).create(host.name, {
        host: host.name,
        publicKey: 'key',
        labels,
        enrolledAtMs: 0,
        enrolledWith: 'token',
        epoch: 1,
      });
    }
    return fleet;
  }

  host(name: string): FakeHost {
    const host = this.hosts.get(name);
    if (host === undefined) throw new Error(`no host ${name}`);
    return host;
  }

  /** A further hub on the store, which goes on with what there is. */
  async hub(death?: Death): Promise<FakeHub> {
    const lines = new FakeLines(this.hosts);
    const { promise: died, resolve } = Promise.withResolvers<void>();
    let writes = 0;
    const store = this.#mortal(async (append) => {
      if (lines.isDead) return await new Promise<never>(() => {});
      writes += 1;
      const isLast = death !== undefined && writes >= death.atWrite;
      if (isLast) lines.isDead = true;
      if (this.failure !== undefined) {
        const { failure } = this;
        this.failure = undefined;
        throw failure;
      }
      const seq = isLast && !death.isDurable ? 0 : await append();
      if (!isLast) return seq;
      resolve();
      return await new Promise<never>(() => {});
    });
    const bus = createLocalBus(quiet);
    const now = (): number => Date.now() + this.clockSetMs;
    const rollouts = new Rollouts({
      store,
      bus,
      leases: new Leases({ store: this.store, hubId: 'hub', bootId: `${this.#hubs.length}`, ttlMs: this.leaseTtlMs, now }),
      leaseTtlMs: this.leaseTtlMs,
      actuator: lines,
      commands: { all: () => this.commands },
      clock: { ...systemClock, now: () => systemClock.now() + this.laterMs },
      now,
      logger: quiet,
      settleMs: this.settleMs,
      tickMs: 20,
      metrics: new RolloutMetrics(new Registry()),
    });
    const hub: FakeHub = {
      rollouts,
      bus,
      died,
      get writes() {
        return writes;
      },
      kill: () => {
        lines.isDead = true;
        rollouts.drivers.close();
        resolve();
      },
    };
    this.#hubs.push(hub);
    await rollouts.takeUp();
    return hub;
  }

  spec(spec: Partial<RolloutSpecInput> = {}): RolloutSpec {
    const steps: RolloutSpecInput['steps'] = [{ kind: 'vm', patch: { memory: { bytes: 2 } } }];
    return parseWith(RolloutSpec, { selector: {}, steps, budget: { maxUnavailable: '100%', perZone: '100%' }, ...spec }, 'spec');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const hub of this.#hubs) hub.kill();
    await this.store.close();
  }

  #mortal(write: (append: () => Promise<number>) => Promise<number>): Store {
    const { store } = this;
    return {
      collection: (definition) => {
        const records = store.collection(definition);
        if (definition.table !== ROLLOUTS.table) return records;
        const modify: typeof records.modify = async (key, change) => {
          if (this.recordFailures-- > 0) throw new FairleadError('STORAGE_FAILED', 'no space left on device');
          return await records.modify(key, change);
        };
        return {
          get: (key) => records.get(key),
          list: (range) => records.list(range),
          count: () => records.count(),
          create: (key, value) => records.create(key, value),
          put: (key, value) => records.put(key, value),
          modify,
          update: (key, value, revision) => records.update(key, value, revision),
          remove: (key, revision) => records.remove(key, revision),
          discard: (key) => records.discard(key),
        };
      },
      log: (definition) => {
        const log = store.log(definition);
        return {
          append: (subject, values) => write(() => log.append(subject, values)),
          read: (query) => log.read(query),
          bounds: () => log.bounds(),
          trim: (through) => log.trim(through),
          forget: (subject) => log.forget(subject),
        };
      },
      get health() {
        return store.health;
      },
      close: () => store.close(),
    };
  }
}

/** Resolves when the rollout stands so, or has come to another end. */
export async function reaches(rollouts: Rollouts, id: string, statuses: readonly string[]): Promise<string> {
  for (;;) {
    const { promise, resolve } = Promise.withResolvers<void>();
    using _ = rollouts.listen((changed) => {
      if (changed === id) resolve();
    });
    const { status } = await rollouts.get(id);
    if (statuses.includes(status)) return status;
    await promise;
  }
}
