/** All rollouts of the hub: planned, started, ordered about, looked at; those that a hub before has left are taken up. */
import { FairleadError } from '../../shared/errors.ts';
import type { RolloutEvent } from '../../shared/protocol/rollout-events.ts';
import type { RolloutForecast, RolloutPlan } from '../../shared/protocol/rollout-plan.ts';
import type { RolloutSpec } from '../../shared/protocol/rollout-spec.ts';
import type { RolloutSummary } from '../../shared/protocol/rollout-status.ts';
import type { Bus } from '../bus.ts';
import { HOSTS } from '../store/records.ts';
import { checkControlPlan, checkStrictPlan } from './check-spec.ts';
import { ClaimsOfPeople } from './claims-of-people.ts';
import type { Action, Order } from './core/act.ts';
import { begin } from './core/evolve.ts';
import { forecast } from './core/forecast.ts';
import { planRollout, revisionOf } from './core/plan.ts';
import type { RolloutState } from './core/state.ts';
import { figuresOf, statusOf } from './core/status.ts';
import { hear } from './core/step.ts';
import type { World } from './core/turn.ts';
import { Drivers, type DriversOptions } from './drivers.ts';
import { type Freeze, FreezeSwitch } from './freeze.ts';
import type { RolloutRecord } from './records.ts';
import { RolloutBook, summaryOf } from './rollout-book.ts';
import { selectHosts } from './selection.ts';
import { toldEvents } from './told-events.ts';

export interface RolloutsOptions extends DriversOptions {
  readonly bus: Bus;
}

/** Rollouts that have ended and can still be looked at and taken back. */
const MAX_ENDED = 200;

/** Of a rollout that has ended, to see what an order would do. */
const NOWHERE: World = {
  t: 0,
  atMs: 0,
  isUp: () => false,
  isUnavailable: () => false,
  room: () => ({ total: 0, zone: () => 0 }),
  closed: () => undefined,
  lateJoiners: () => [],
};

export class Rollouts {
  readonly drivers: Drivers;
  readonly #options: RolloutsOptions;
  readonly #book: RolloutBook;
  readonly #freeze: FreezeSwitch;
  readonly #listeners = new Set<(id: string) => void>();
  readonly #scope = new DisposableStack();
  readonly #people: ClaimsOfPeople;
  /** What decides who gets which hosts, one after the other. */
  #turns: Promise<unknown> = Promise.resolve();

  constructor(options: RolloutsOptions) {
    this.#options = options;
    this.#freeze = new FreezeSwitch(options.store);
    this.#book = new RolloutBook(options.store);
    const onEvent = (id: string): void => this.#listeners.forEach((listener) => listener(id));
    this.drivers = new Drivers(options, this.#book, () => this.#freeze.current, onEvent);
    const onLine = ({ host }: { host: string }): void => this.drivers.lineChanged(host);
    this.#scope.use(options.bus.subscribe('host.connected', onLine));
    this.#scope.use(options.bus.subscribe('host.disconnected', onLine));
    const { bus, store, logger } = options;
    const { availability } = this.drivers.claims;
    const onFault = (err: unknown): void => logger.error({ err }, 'could not see whether a host is drained');
    const onChange = (host: string): void => this.drivers.poke(host);
    this.#people = this.#scope.use(new ClaimsOfPeople({ bus, store, availability, onChange, onFault }));
  }

  /** What was under way when the hub before this one ended. Before anything else is asked. */
  async takeUp(): Promise<void> {
    await this.#freeze.load();
    await this.#people.load();
    const { store, actuator } = this.#options;
    const hosts = (await store.collection(HOSTS).list()).map(({ value }) => value.host);
    this.drivers.hostsReturn.expect(hosts.filter((host) => !actuator.isUp(host)));
    for (const record of await this.#book.list()) if (record.endedAtMs === undefined) await this.#takeUp(record);
  }

  get freeze(): Freeze | undefined {
    return this.#freeze.current;
  }

  async setFreeze(freeze: Freeze | undefined): Promise<void> {
    await this.#freeze.set(freeze);
    this.drivers.pokeAll();
  }

  /** Nothing is kept of it. `id` decides who is the canary. @throws FairleadError NOT_FOUND, INVALID_PARAMS (strict mode could start nothing) */
  async plan(id: string, spec: RolloutSpec): Promise<RolloutForecast> {
    return forecast(spec, await this.#plan(id, spec));
  }

  /**
   * Durable when it resolves. The same id with the same spec again is answered with the rollout as it stands.
   * @throws FairleadError NOT_FOUND, CONFLICT (other hosts than were planned with; a host is in another's hands; the id is another spec's)
   */
  async start(id: string, spec: RolloutSpec, by: { actor: string; hostsDigest?: string | undefined }): Promise<RolloutSummary> {
    await this.#inTurn(async () => {
      const known = await this.#book.find(id);
      if (known !== undefined) return await this.#requireSame(known, revisionOf(spec));
      const plan = await this.#plan(id, spec);
      if (by.hostsDigest !== undefined && by.hostsDigest !== plan.hostsDigest) {
        const message = `the selector names other hosts than when rollout ${id} was planned: it is ${plan.hosts.length} now; plan it again`;
        throw new FairleadError('CONFLICT', message, { details: { hostsDigest: plan.hostsDigest } });
      }
      this.drivers.claims.requireFree(id, plan.hosts);
      const { actor: startedBy } = by;
      const atMs = this.#options.now();
      const planned = { type: 'planned', plan, by: { kind: 'person', actor: startedBy } } as const;
      const record: RolloutRecord = { id, spec, startedBy, startedAtMs: atMs, status: 'running', hosts: plan.hosts.length };
      await this.#book.prune(MAX_ENDED);
      const seq = await this.#book.add(record, { t: 0, atMs, fact: planned });
      await this.drivers.drive(record, { state: begin(id, spec, planned), seq });
    });
    return await this.get(id);
  }

  /** Durable when it resolves. @throws FairleadError NOT_FOUND, WRONG_STATE, CONFLICT, PERMISSION_DENIED */
  async order(id: string, action: Action, by: { readonly actor: string; readonly reason: string }): Promise<RolloutSummary> {
    const order: Order = { action, ...by };
    const { clock, metrics } = this.#options;
    const askedMs = clock.now();
    const driver = this.drivers.get(id);
    if (driver !== undefined) await driver.order(order);
    else await this.#inTurn(() => this.#orderEnded(id, order));
    metrics.ordered(action.kind, clock.now() - askedMs);
    return await this.get(id);
  }

  /** @throws FairleadError NOT_FOUND */
  async get(id: string): Promise<RolloutSummary> {
    const record = await this.#book.record(id);
    const driver = this.drivers.get(id);
    if (driver === undefined) return summaryOf(record, await this.#book.figures(record));
    // An end is told when it is durable.
    if (driver.state.phase.kind === 'ended') await driver.settled();
    return summaryOf(record, { figures: figuresOf(driver.state), seq: driver.seq }, driver.blocked);
  }

  /** @throws FairleadError NOT_FOUND */
  async state(id: string): Promise<RolloutState> {
    return this.drivers.get(id)?.state ?? (await this.#book.read(await this.#book.record(id))).state;
  }

  /** Newest first, each with its status of this moment. */
  async list(): Promise<readonly RolloutRecord[]> {
    const records = await this.#book.list();
    return records.map((record) => ({ ...record, status: this.drivers.statusOf(record.id) ?? record.status }));
  }

  /** Of the journal, in order, as many as fit one message. @throws FairleadError NOT_FOUND */
  async events(id: string, after: number, limit: number): Promise<RolloutEvent[]> {
    await this.#book.record(id);
    return toldEvents(await this.#book.entries(id, after, limit));
  }

  /** Called with the id of each rollout that has a new event, or is driven no more. */
  listen(listener: (id: string) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  async close(): Promise<void> {
    this.#scope.dispose();
    await this.#turns;
    this.drivers.close();
  }

  async #plan(id: string, spec: RolloutSpec): Promise<RolloutPlan> {
    const { store, actuator } = this.#options;
    const plan = withAway(planRollout(id, spec, await selectHosts(store, spec.selector)), (host) => actuator.isUp(host));
    checkStrictPlan(spec, plan);
    checkControlPlan(spec, plan);
    return plan;
  }

  /** Its record may be behind its journal. */
  async #takeUp(record: RolloutRecord): Promise<void> {
    const { state } = await this.#book.read(record);
    if (state.phase.kind !== 'ended') await this.drivers.drive(record);
    else this.drivers.note(record.id, statusOf(state), state.atMs);
  }

  /** Only what would change something takes its hosts in hand again: to take them back, or to try the failed ones once more. */
  async #orderEnded(id: string, order: Order): Promise<void> {
    const record = await this.#book.record(id);
    const { state } = await this.#book.read(record);
    if (state.phase.kind !== 'ended') {
      throw new FairleadError('CONFLICT', `rollout ${id} is driven by another hub; give the order there`);
    }
    const hosts = [...state.hosts.values()];
    const { action } = order;
    const except = action.kind === 'rollback' ? await this.#changedSince(record, state) : [];
    const given: Order = action.kind === 'rollback' ? { ...order, action: { ...action, except } } : order;
    if (hear(state, { kind: 'order', order: given }, NOWHERE).facts.length === 0) return;
    this.drivers.claims.requireFree(id, hosts);
    await (await this.drivers.drive(record))?.order(given);
  }

  /** What a later rollout has changed is not this one's to take back. */
  async #changedSince({ id, startedAtMs }: RolloutRecord, { hosts }: RolloutState): Promise<string[]> {
    const changed = new Set<string>();
    for (const later of await this.#book.list()) {
      if (later.id === id || later.startedAtMs < startedAtMs) continue;
      for (const { host, touched, phase } of (await this.#book.read(later)).state.hosts.values()) {
        if (touched && phase !== 'restored' && hosts.has(host)) changed.add(host);
      }
    }
    return [...changed].sort();
  }

  /** @throws FairleadError CONFLICT */
  async #requireSame(known: RolloutRecord, revision: string): Promise<void> {
    const { state } = await this.#book.read(known);
    if (state.plan.revision === revision) return;
    throw new FairleadError('CONFLICT', `there is a rollout ${known.id} of another spec; give this one another id`);
  }

  async #inTurn<T>(run: () => Promise<T>): Promise<T> {
    const turn = this.#turns.then(run);
    this.#turns = turn.catch(() => {});
    return await turn;
  }
}

function withAway(plan: RolloutPlan, isUp: (host: string) => boolean): RolloutPlan {
  return { ...plan, hosts: plan.hosts.map((host) => (isUp(host.host) ? host : { ...host, away: true })) };
}
