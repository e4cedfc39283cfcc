/**
 * The drivers of this hub, one for each rollout that is under way. Whoever drives a rollout holds its lease, and the lease's fencing epoch goes
 * with every command: of two hubs that both believe in themselves, hosts obey the later one.
 */
import type { Clock, Timer } from '../../shared/clock.ts';
import { rolloutActor } from '../../shared/protocol/rollout-actor.ts';
import type { RolloutSpec } from '../../shared/protocol/rollout-spec.ts';
import type { RolloutStatus } from '../../shared/protocol/rollout-status.ts';
import type { CommandBook } from '../commands/command-book.ts';
import type { HubLogger } from '../logger.ts';
import type { Leases } from '../store/lease.ts';
import type { Store } from '../store/store.ts';
import type { Actuator } from './actuator.ts';
import { Bystanders, COMING_BACK } from './bystanders.ts';
import { Claims } from './claims.ts';
import { isOpen } from './core/change-windows.ts';
import type { RolloutState } from './core/state.ts';
import { statusOf } from './core/status.ts';
import type { World } from './core/turn.ts';
import { RolloutDriver } from './driver.ts';
import { Executor } from './executor.ts';
import type { Freeze } from './freeze.ts';
import { HostsReturn } from './hosts-return.ts';
import { LateJoiners } from './late-joiners.ts';
import type { RolloutRecord } from './records.ts';
import type { ReadRollout, RolloutBook } from './rollout-book.ts';
import type { RolloutMetrics } from './rollout-metrics.ts';

export interface DriversOptions {
  readonly store: Store;
  readonly leases: Leases;
  readonly leaseTtlMs: number;
  readonly actuator: Actuator;
  /** Of people and programs. */
  readonly commands: Pick<CommandBook, 'all'>;
  readonly clock: Clock;
  /** Unix milliseconds. */
  readonly now: () => number;
  readonly logger: HubLogger;
  /** After the hub's start, for its hosts to come back before any of them counts as unreachable (hosts-return.ts). */
  readonly settleMs: number;
  readonly tickMs: number;
  readonly metrics: RolloutMetrics;
}

interface Driven {
  readonly driver: RolloutDriver;
  readonly epoch: number;
  status: RolloutStatus;
  renewal: Timer | undefined;
}

const RETRY_MS = 1000;

export class Drivers {
  readonly claims: Claims;
  readonly hostsReturn: HostsReturn;
  readonly #options: DriversOptions;
  readonly #book: RolloutBook;
  readonly #freeze: () => Freeze | undefined;
  readonly #onEvent: (id: string) => void;
  readonly #driven = new Map<string, Driven>();
  #isClosed = false;

  constructor(options: DriversOptions, book: RolloutBook, freeze: () => Freeze | undefined, onEvent: (id: string) => void) {
    this.#options = options;
    this.#book = book;
    this.#freeze = freeze;
    this.#onEvent = onEvent;
    this.claims = new Claims((host) => options.actuator.isUp(host));
    this.hostsReturn = new HostsReturn(options.clock, options.settleMs);
    options.metrics.watch(() =>
      [...this.#driven.values()].map(({ status, driver: { state } }) => ({
        status,
        inFlight: state.inFlight.size + state.undoing.size,
      })),
    );
  }

  get(id: string): RolloutDriver | undefined {
    return this.#driven.get(id)?.driver;
  }

  statusOf(id: string): RolloutStatus | undefined {
    return this.#driven.get(id)?.status;
  }

  pokeAll(): void {
    for (const { driver } of this.#driven.values()) driver.poke();
  }

  lineChanged(host: string): void {
    if (this.#options.actuator.isUp(host)) this.hostsReturn.connected(host);
    this.claims.lineChanged(host);
    this.poke(host);
  }

  /** The rollout that has the host in its hands looks again. */
  poke(host: string): void {
    const holder = this.claims.holderOf(host);
    if (holder !== undefined) this.get(holder)?.poke();
  }

  /** `begun`: it is new, and this is all that its journal says. Undefined while another hub drives it. */
  async drive(record: RolloutRecord, begun?: ReadRollout): Promise<RolloutDriver | undefined> {
    const { id, spec } = record;
    const { leases, logger, clock, now, tickMs, metrics } = this.#options;
    const epoch = await leases.take(leaseOf(id));
    if (epoch === undefined) {
      logger.info({ rollout: id }, `rollout ${id} is driven by another hub`);
      return undefined;
    }
    const driver = await RolloutDriver.open({
      id,
      spec,
      begun,
      log: this.#book.log,
      logger,
      clock,
      rolloutClock: () => this.hostsReturn.now(),
      now,
      tickMs,
      executor: (made) => this.#executor(made, epoch, this.#bystandersOf(record)),
      world: this.#worldOf(id, spec),
      isOurs: () => leases.isOurs(leaseOf(id), epoch),
      onEvolved: (state, facts) => this.claims.evolved(state, facts),
      onDurable: (state, entries, seq) => {
        metrics.told(entries.map(({ fact }) => fact));
        if (state.phase.kind === 'ended') this.#book.remember(id, { state, seq });
        this.#durable(state);
      },
      onStopped: (why) => void this.#stopped(id, why),
    });
    const driven: Driven = { driver, epoch, status: record.status, renewal: undefined };
    this.#driven.set(id, driven);
    this.#renewLater(id, driven);
    logger.info({ rollout: id, epoch }, `rollout ${id} is driven by this hub`);
    if (driver.isStopped) this.#forget(id);
    return driver;
  }

  /** Leaves what is under way to the next hub. */
  close(): void {
    this.#isClosed = true;
    for (const { driver } of this.#driven.values()) driver.stop('left');
  }

  #bystandersOf({ id, startedAtMs: sinceMs }: RolloutRecord): Bystanders {
    const { store, actuator, commands } = this.#options;
    const isSettling = (): boolean => !this.hostsReturn.isOver;
    return new Bystanders({ rollout: id, sinceMs, store, claims: this.claims, commands, actuator, isSettling });
  }

  #executor(driver: RolloutDriver, epoch: number, bystanders: Bystanders): Executor {
    const { actuator, clock, logger, metrics } = this.#options;
    const { id } = driver;
    return new Executor({
      actuator,
      bystanders,
      fence: { scope: leaseOf(id), epoch },
      actor: rolloutActor(id),
      now: () => this.hostsReturn.now(),
      sleep: (ms, signal) => sleep(clock, ms, signal),
      onReport: (report) => {
        metrics.reported(report);
        driver.report(report);
      },
      onFenced: () => driver.stop('fenced'),
      onFault: (err, effect) => logger.error({ err, rollout: id, effect: effect.kind }, `rollout ${id}: a fault of the hub`),
    });
  }

  #worldOf(id: string, spec: RolloutSpec): Omit<World, 't' | 'atMs'> {
    const { actuator, store, clock, now } = this.#options;
    const { claims } = this;
    const joiners = new LateJoiners({ store, spec, clock, isFree: (host) => claims.holderOf(host) === undefined });
    return {
      isUp: (host) => actuator.isUp(host),
      isUnavailable: (host) => claims.availability.isUnavailable(host),
      room: () => claims.availability.room(id),
      closed: (zone) => (this.hostsReturn.isOver ? this.#whyClosed(spec, zone, now()) : COMING_BACK),
      lateJoiners: () => joiners.look(),
    };
  }

  #whyClosed({ windows }: RolloutSpec, zone: string, atMs: number): string | undefined {
    const freeze = this.#freeze();
    if (freeze !== undefined) return `they are frozen by ${freeze.by}: ${freeze.reason}`;
    return isOpen(windows, zone, atMs) ? undefined : `no change window of zone ${zone} is open`;
  }

  #durable(state: RolloutState): void {
    const { id } = state;
    // Whoever hears of its end may start another on the same hosts.
    if (state.phase.kind === 'ended') this.claims.release(state);
    this.#onEvent(id);
    const driven = this.#driven.get(id);
    const status = statusOf(state);
    if (driven === undefined || driven.status === status) return;
    driven.status = status;
    const { logger, now } = this.#options;
    logger.info({ rollout: id, status }, `rollout ${id} is ${status}`);
    this.note(id, status, state.phase.kind === 'ended' ? now() : undefined);
  }

  /** In the rollout's record, as soon as the store takes it. */
  note(id: string, status: RolloutStatus, endedAtMs: number | undefined): void {
    this.#book.noteStanding(id, { status, endedAtMs });
    void this.#writeStanding(id);
  }

  /** Never rejects. */
  async #writeStanding(id: string): Promise<void> {
    const { clock, logger } = this.#options;
    try {
      await this.#book.writeStanding(id);
    } catch (err) {
      // The next hub reads it in the journal.
      if (this.#isClosed) return;
      logger.error({ err, rollout: id }, `could not note how rollout ${id} stands, which is tried again`);
      clock.setTimeout(() => void this.#writeStanding(id), RETRY_MS);
    }
  }

  /** Never rejects. */
  async #stopped(id: string, why: 'ended' | 'fenced' | 'left'): Promise<void> {
    const epoch = this.#driven.get(id)?.epoch;
    this.#forget(id);
    const { logger, leases } = this.#options;
    if (why === 'fenced') logger.error({ rollout: id }, `rollout ${id} was taken over; this hub drives it no more`);
    if (why !== 'ended' || epoch === undefined) return;
    try {
      await leases.release(leaseOf(id), epoch);
    } catch (err) {
      logger.warn({ err, rollout: id }, `could not give back the lease of rollout ${id}`);
    }
  }

  #forget(id: string): void {
    const driven = this.#driven.get(id);
    if (driven === undefined) return;
    driven.renewal?.cancel();
    this.#driven.delete(id);
    this.claims.release(driven.driver.state);
    this.#onEvent(id);
  }

  #renewLater(id: string, driven: Driven): void {
    const { clock, leaseTtlMs } = this.#options;
    driven.renewal = clock.setTimeout(() => void this.#renew(id, driven), leaseTtlMs / 3);
  }

  /** Never rejects. */
  async #renew(id: string, driven: Driven): Promise<void> {
    const { leases, logger } = this.#options;
    try {
      const isOurs = await leases.renew(leaseOf(id), driven.epoch);
      if (driven.driver.isStopped) return;
      if (isOurs) return this.#renewLater(id, driven);
      // Its time may just have been over, by a clock that was set or a process that stood still: then nobody else has taken it.
      driven.driver.stop('fenced');
      if (!this.#isClosed) await this.drive(await this.#book.record(id));
    } catch (err) {
      logger.error({ err, rollout: id }, `could not renew the lease of rollout ${id}`);
      if (!driven.driver.isStopped) this.#renewLater(id, driven);
    }
  }
}

function leaseOf(id: string): string {
  return `rollout/${id}`;
}

async function sleep(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const timer = clock.setTimeout(resolve, ms);
  const leave = (): void => reject(signal.reason);
  signal.addEventListener('abort', leave, { once: true });
  try {
    await promise;
  } finally {
    timer.cancel();
    signal.removeEventListener('abort', leave);
  }
}
