/**
 * Drives one rollout: takes causes in, lets the core decide, makes its facts durable, and only then does what follows from them.
 *
 *     causes ──▶ heard, and gone on from ──▶ facts ──▶ one write of the journal ──▶ effects, acknowledgements, watchers
 *        ▲                                                  (what arrives meanwhile is the next batch)        │
 *        └───────────────────────────── reports of the executor, ticks, the world ◀─────────────────────────┘
 *
 *     driving ──the write fails──▶ recovering: state and effects anew from the journal, a little later ──▶ driving
 *        └────the lease is lost, a host knows of a later driver, the rollout has ended──▶ stopped
 *
 * Reports of one batch are heard one after the other, and what follows from all of them is decided once, as it is around each order. An order is
 * acknowledged when it is durable; one that is refused has changed nothing. A driver that dies at any point is replaced by another
 * that reads the journal.
 */
import type { Clock, Timer } from '../../shared/clock.ts';
import { FairleadError } from '../../shared/errors.ts';
import type { RolloutEntry, RolloutFact } from '../../shared/protocol/rollout-events.ts';
import type { RolloutSpec } from '../../shared/protocol/rollout-spec.ts';
import type { HubLogger } from '../logger.ts';
import type { Log } from '../store/store.ts';
import type { Order } from './core/act.ts';
import { outstanding } from './core/effects.ts';
import { replay } from './core/evolve.ts';
import type { RolloutState } from './core/state.ts';
import { type Cause, goOn, hear, type Step } from './core/step.ts';
import type { World } from './core/turn.ts';
import type { Executor } from './executor.ts';
import type { ReadRollout } from './rollout-book.ts';

export interface DriverOptions {
  readonly id: string;
  readonly spec: RolloutSpec;
  /** What its journal says, where that is known and need not be read. */
  readonly begun?: ReadRollout | undefined;
  readonly log: Log<RolloutEntry>;
  readonly clock: Clock;
  /** Milliseconds that never go back, of which a rollout's time is made. */
  readonly rolloutClock: () => number;
  /** Unix milliseconds. */
  readonly now: () => number;
  readonly tickMs: number;
  readonly logger: HubLogger;
  readonly executor: (driver: RolloutDriver) => Executor;
  /** Of the world, what is no time. */
  readonly world: Omit<World, 't' | 'atMs'>;
  /** Whether this is still the one who drives it; asked before each write. */
  readonly isOurs: () => Promise<boolean>;
  /** The state has taken these in; they are not durable yet. For what is counted over all rollouts. */
  readonly onEvolved: (state: RolloutState, facts: readonly RolloutFact[]) => void;
  /** They are durable. `seq` is that of the last one. */
  readonly onDurable: (state: RolloutState, entries: readonly RolloutEntry[], seq: number) => void;
  /** No more is done by this driver. */
  readonly onStopped: (why: 'ended' | 'fenced' | 'left') => void;
}

interface Queued {
  readonly cause: Cause;
  readonly settle?: { resolve(): void; reject(error: unknown): void };
}

const RECOVERY_DELAY_MS = 1000;

export class RolloutDriver {
  readonly id: string;
  readonly #options: DriverOptions;
  readonly #executor: Executor;
  #state: RolloutState;
  #seq: number;
  #blocked: string | undefined;
  #queue: Queued[] = [];
  #isDraining = false;
  #running: Promise<void> = Promise.resolve();
  /** Rollout time goes on from here: dates that are set, hubs that are away and hosts that come back to one do not count. */
  #origin: { readonly t: number; readonly clockMs: number };
  #tick: Timer | undefined;
  #stopped: 'ended' | 'fenced' | 'left' | undefined;

  private constructor(options: DriverOptions, state: RolloutState, seq: number) {
    this.id = options.id;
    this.#options = options;
    this.#state = state;
    this.#seq = seq;
    this.#origin = { t: state.t, clockMs: options.rolloutClock() };
    this.#executor = options.executor(this);
  }

  /** Takes the rollout up where its journal ends. @throws FairleadError NOT_FOUND when there is none, or what the store throws */
  static async open(options: DriverOptions): Promise<RolloutDriver> {
    const { state, seq } = options.begun ?? (await load(options));
    const driver = new RolloutDriver(options, state, seq);
    options.onEvolved(state, []);
    for (const effect of outstanding(state)) driver.#executor.perform(state, effect);
    // One that has ended waits for the order for whose sake it was opened.
    if (state.phase.kind !== 'ended') driver.poke();
    return driver;
  }

  get state(): RolloutState {
    return this.#state;
  }

  /** Of the last durable event. */
  get seq(): number {
    return this.#seq;
  }

  /** Why no further host is started at this moment. */
  get blocked(): string | undefined {
    return this.#blocked;
  }

  /** Once what the state has taken in is durable, or has failed to be. */
  async settled(): Promise<void> {
    await this.#running.catch(() => {});
  }

  get isStopped(): boolean {
    return this.#stopped !== undefined;
  }

  /** Resolves when it is durable. @throws FairleadError what the core refuses with, STORAGE_FAILED, INTERRUPTED when the driver stops */
  async order(order: Order): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#take({ cause: { kind: 'order', order }, settle: { resolve, reject } });
    await promise;
  }

  report(report: Extract<Cause, { kind: 'report' }>['report']): void {
    this.#take({ cause: { kind: 'report', report } });
  }

  /** The world has changed. */
  poke(): void {
    if (this.#queue.at(-1)?.cause.kind === 'tick') return;
    this.#take({ cause: { kind: 'tick' } });
  }

  /** Nothing is begun or written after this; hosts end what they are doing. */
  stop(why: 'ended' | 'fenced' | 'left' = 'left'): void {
    if (this.#stopped !== undefined) return;
    this.#stopped = why;
    this.#tick?.cancel();
    this.#executor.stop();
    for (const { settle } of this.#queue) settle?.reject(stoppedError(this.id, why));
    this.#queue = [];
    this.#options.onStopped(why);
  }

  #take(queued: Queued): void {
    if (this.#stopped !== undefined) return queued.settle?.reject(stoppedError(this.id, this.#stopped));
    this.#queue.push(queued);
    if (!this.#isDraining) void this.#drain();
  }

  /** Never rejects. */
  async #drain(): Promise<void> {
    this.#isDraining = true;
    // What arrives in this turn of the loop is one batch.
    await Promise.resolve();
    while (this.#queue.length > 0 && this.#stopped === undefined) {
      const batch = this.#queue;
      this.#queue = [];
      try {
        this.#running = this.#run(batch);
        await this.#running;
      } catch (error) {
        this.#options.logger.error(
          { err: error, rollout: this.id },
          `rollout ${this.id} could not go on, its journal is read again`,
        );
        for (const { settle } of batch) settle?.reject(error);
        await this.#recover();
      }
    }
    this.#isDraining = false;
    if (this.#stopped !== undefined) return;
    if (this.#state.phase.kind === 'ended') this.stop('ended');
    else this.#tickLater();
  }

  async #run(batch: readonly Queued[]): Promise<void> {
    const { log, isOurs, onEvolved, onDurable } = this.#options;
    const state = this.#state;
    const entries: RolloutEntry[] = [];
    const effects: Step['effects'][number][] = [];
    const acknowledged: Queued['settle'][] = [];
    const world = this.#world();
    const take = (step: Step): void => {
      for (const fact of step.facts) entries.push({ t: world.t, atMs: world.atMs, fact });
      effects.push(...step.effects);
      if (step.facts.length > 0) onEvolved(state, step.facts);
    };
    const proceed = (): void => {
      const onward = goOn(state, world);
      this.#blocked = onward.blocked;
      take(onward);
    };
    for (const [index, { cause, settle }] of batch.entries()) {
      if (cause.kind === 'order' && index > 0) proceed();
      try {
        take(hear(state, cause, world));
        acknowledged.push(settle);
      } catch (error) {
        // An order that is refused; of anything else it is a fault of ours.
        if (settle === undefined) throw error;
        settle.reject(error);
      }
    }
    proceed();
    if (entries.length > 0) {
      if (await isOurs()) this.#seq = await log.append(this.id, entries);
      else this.stop('fenced');
    }
    if (this.#stopped !== undefined) {
      for (const settle of acknowledged) settle?.reject(stoppedError(this.id, this.#stopped));
      return;
    }
    for (const effect of effects) this.#executor.perform(state, effect);
    for (const settle of acknowledged) settle?.resolve();
    if (entries.length > 0) onDurable(state, entries, this.#seq);
  }

  /** What was not written has not happened. */
  async #recover(): Promise<void> {
    while (this.#stopped === undefined) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#tick = this.#options.clock.setTimeout(resolve, RECOVERY_DELAY_MS);
      await promise;
      try {
        const { state, seq } = await load(this.#options);
        this.#state = state;
        this.#seq = seq;
        this.#origin = { t: state.t, clockMs: this.#options.rolloutClock() };
        this.#options.onEvolved(state, []);
        for (const effect of outstanding(state)) this.#executor.perform(state, effect);
        return;
      } catch (err) {
        this.#options.logger.error({ err, rollout: this.id }, `the journal of rollout ${this.id} cannot be read`);
      }
    }
  }

  #tickLater(): void {
    this.#tick?.cancel();
    this.#tick = this.#options.clock.setTimeout(() => this.poke(), this.#options.tickMs);
  }

  #world(): World {
    const { world, rolloutClock, now } = this.#options;
    const { t, clockMs } = this.#origin;
    return { ...world, t: t + Math.max(0, rolloutClock() - clockMs), atMs: Math.max(0, now()) };
  }
}

async function load({ id, spec, log }: DriverOptions): Promise<ReadRollout> {
  const entries = await log.read({ subject: id });
  const state = replay(
    id,
    spec,
    entries.map(({ value }) => value),
  );
  if (state === undefined) throw new FairleadError('NOT_FOUND', `rollout ${id} has no journal`);
  return { state, seq: entries.at(-1)?.seq ?? 0 };
}

function stoppedError(id: string, why: string): FairleadError {
  if (why === 'ended') return new FairleadError('WRONG_STATE', `rollout ${id} has ended`);
  return new FairleadError('INTERRUPTED', `rollout ${id} is not driven by this hub any more; ask again`);
}
