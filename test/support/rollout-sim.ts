/**
 * A rollout on virtual time, with hosts that are a value each: what the core decides is done to them, their answers come when they come, hubs
 * die between any two events, and every promise is looked at after every step.
 */
import { Availability } from '../../hub/rollout/availability.ts';
import { type Action } from '../../hub/rollout/core/act.ts';
import { budgetLimits } from '../../hub/rollout/core/budget.ts';
import {
  type Comparison,
  compareGroups,
  drawGroups,
  type Groups,
  type Look,
  type Standing,
} from '../../hub/rollout/core/control-group.ts';
import { type Effect, keyOf, outstanding } from '../../hub/rollout/core/effects.ts';
import { begin, replay } from '../../hub/rollout/core/evolve.ts';
import type { Report } from '../../hub/rollout/core/hear-report.ts';
import type { Candidate } from '../../hub/rollout/core/host-order.ts';
import { planRollout } from '../../hub/rollout/core/plan.ts';
import { isDisrupted, type RolloutState } from '../../hub/rollout/core/state.ts';
import { statusOf } from '../../hub/rollout/core/status.ts';
import { type Cause, goOn, hear, type Step } from '../../hub/rollout/core/step.ts';
import type { World } from '../../hub/rollout/core/turn.ts';
import { parseWith } from '../../shared/protocol/parse-with.ts';
import type { ControlCheck } from '../../shared/protocol/rollout-checks.ts';
import type { RolloutEntry, RolloutFact } from '../../shared/protocol/rollout-events.ts';
import { type FailureClass, RolloutSpec, type RolloutSpecInput } from '../../shared/protocol/rollout-spec.ts';
import type { RolloutStatus } from '../../shared/protocol/rollout-status.ts';
import { amountOf } from '../../shared/protocol/rollout-values.ts';

/** What a host does when its change comes; attempts after the first succeed with `ok-later`. */
export type Behaviour = 'ok' | 'ok-later' | 'unhealthy' | 'undo-fails' | 'silent' | Exclude<FailureClass, 'unhealthy'>;

export interface SimHost {
  readonly zone: string;
  readonly behaviour?: Behaviour;
  readonly tookMs?: number;
  readonly agentVersion?: string;
  readonly hardware?: string;
}

interface Host extends SimHost {
  readonly name: string;
  value: string;
  up: boolean;
  /** Commands it has run; a repeat is answered and not run. */
  readonly ran: Map<string, Report>;
}

interface Answer {
  readonly dueT: number;
  readonly host: string | undefined;
  readonly report: () => Report;
}

const ORIGINAL = 'old';
const NOTHING: RolloutSpecInput['steps'] = [{ kind: 'vm', vms: {} }];

export class RolloutSim {
  readonly spec: RolloutSpec;
  readonly hosts = new Map<string, Host>();
  readonly availability = new Availability();
  readonly log: RolloutEntry[] = [];
  state: RolloutState;
  blocked: string | undefined;
  t = 0;
  closed: string | undefined;
  /** Answers of so long are heard together. */
  gatherMs = 0;
  joiners: Candidate[] = [];
  /** What the gate of a wave, or a webhook, answers. */
  gateAnswer: 'success' | 'failure' | 'inconclusive' = 'success';
  /** Hosts that something has befallen that is not the change; and those that somebody has changed, or has in hand. */
  readonly sick = new Set<string>();
  readonly meddled = new Set<string>();
  readonly taken = new Set<string>();
  /** Comparisons of changed and unchanged hosts that were made, in order. */
  readonly compared: (Groups & Comparison)[] = [];
  #answers: Answer[] = [];
  readonly #running = new Set<string>();
  /** First times, in their order, each with how many events there were by then. */
  readonly begun: { readonly key: string; readonly seq: number }[] = [];

  constructor(spec: Omit<RolloutSpecInput, 'selector' | 'steps'>, hosts: Readonly<Record<string, SimHost>>, id = 'r1') {
    this.spec = parseWith(RolloutSpec, { selector: {}, steps: NOTHING, ...spec }, 'spec');
    for (const [name, host] of Object.entries(hosts)) {
      this.hosts.set(name, { ...host, name, value: ORIGINAL, up: true, ran: new Map() });
    }
    const plan = planRollout(id, this.spec, [...this.hosts.values()].map(candidate));
    const planned = { type: 'planned', plan, by: { kind: 'person', actor: 'alice' } } as const;
    this.availability.watch(id, plan.hosts, budgetLimits(this.spec, plan.hosts));
    this.state = begin(id, this.spec, planned);
    this.log.push({ t: 0, atMs: 0, fact: planned });
    this.apply({ kind: 'tick' });
  }

  get status(): RolloutStatus {
    return statusOf(this.state);
  }

  get ended(): boolean {
    return this.state.phase.kind === 'ended';
  }

  facts<T extends RolloutFact['type']>(type: T): Extract<RolloutFact, { type: T }>[] {
    // SAFETY: filtered by the very type.
    return this.log.map(({ fact }) => fact).filter((fact) => fact.type === type) as Extract<RolloutFact, { type: T }>[];
  }

  hostsIn(phase: string): string[] {
    return [...this.state.hosts.values()].filter((host) => host.phase === phase).map(({ host }) => host);
  }

  /** @throws FairleadError when it is refused */
  order(action: Action, actor = 'alice', reason = 'because'): void {
    this.apply({ kind: 'order', order: { action, actor, reason } });
  }

  setUp(name: string, up: boolean): void {
    const host = this.#host(name);
    host.up = up;
    this.availability.set(name, 'line', !up);
    this.apply({ kind: 'tick' });
  }

  /** Lets the hub die after the first `durable` events and another take over, which knows those and nothing else. */
  crash(durable = this.log.length): void {
    this.log.length = Math.max(1, durable);
    const revived = replay(this.state.id, this.spec, this.log);
    if (revived === undefined) throw new Error('nothing to replay');
    this.state = revived;
    this.#running.clear();
    this.#answers = [];
    this.#count();
    for (const effect of outstanding(revived)) this.#perform(effect);
    this.apply({ kind: 'tick' });
  }

  /** Time goes on; answers come when they are due, or together with those that are due within `gatherMs`. */
  advance(ms: number, tickMs = 1000): void {
    const end = this.t + ms;
    while (this.t < end) {
      const awaited = this.#answers
        .filter(({ host }) => host === undefined || this.#host(host).up)
        .toSorted((a, b) => a.dueT - b.dueT);
      const [next] = awaited;
      this.t = Math.min(end, next === undefined ? end : Math.max(this.t, next.dueT + this.gatherMs), this.t + tickMs);
      const due = awaited.filter(({ dueT }) => dueT <= this.t).slice(0, this.gatherMs === 0 ? 1 : undefined);
      this.#answers = this.#answers.filter((answer) => !due.includes(answer));
      if (due.length > 0) this.apply(...due.map(({ report }) => ({ kind: 'report', report: report() }) as const));
      else this.apply({ kind: 'tick' });
    }
  }

  run(maxMs = 3_600_000, tickMs = 1000): this {
    const end = this.t + maxMs;
    while (this.t < end && !this.ended && this.status !== 'paused') this.advance(Math.min(tickMs, end - this.t), tickMs);
    return this;
  }

  /** As a driver does: what is there together is heard one after the other, and gone on from once. */
  apply(...causes: readonly Cause[]): void {
    const effects = causes.flatMap((cause) => this.#take(hear(this.state, cause, this.#world())));
    const onward = goOn(this.state, this.#world());
    this.blocked = onward.blocked;
    for (const effect of [...effects, ...this.#take(onward)]) this.#perform(effect);
  }

  #take({ facts, effects }: Step): readonly Effect[] {
    for (const fact of facts) {
      this.log.push({ t: this.t, atMs: this.t, fact });
      this.#watch(fact);
    }
    if (facts.length > 0) this.#count();
    this.checkPromises(facts);
    return effects;
  }

  /** The rules that hold at every moment. @throws Error */
  checkPromises(facts: readonly RolloutFact[]): void {
    const { state } = this;
    const isForward = state.phase.kind === 'forward';
    for (const { type } of facts)
      if (type === 'host-started' && !isForward && facts.at(-1)?.type === type)
        throw new Error(`a host was started while ${this.status}`);
    if (!state.spec.strict) return;
    for (const threshold of state.spec.thresholds) {
      if ('sequential' in threshold) throw new Error('a sequential test has no limit that strict mode could hold');
      const tallies = { rollout: [state.tallies.all], zone: state.tallies.zones.values(), wave: state.tallies.waves.values() }[
        threshold.of
      ];
      for (const tally of tallies) {
        const failures = threshold.failures === 'any' ? tally.failed : tally.failedAs(threshold.failures);
        if (failures > amountOf(threshold.max, tally.planned, Math.floor)) throw new Error(`${failures} failures in strict mode`);
      }
    }
  }

  #world(): World {
    return {
      t: this.t,
      atMs: this.t,
      isUp: (name) => this.#host(name).up,
      isUnavailable: (name) => this.availability.isUnavailable(name),
      room: () => this.availability.room(this.state.id),
      closed: () => this.closed,
      lateJoiners: () => this.joiners.filter(({ host }) => !this.state.hosts.has(host)),
    };
  }

  /** Each start on its own, for the promise is about what we add to what is away already. */
  #watch(fact: RolloutFact): void {
    if (fact.type !== 'host-started' && fact.type !== 'undo-started') return;
    const host = this.#host(fact.host);
    if (this.availability.isUnavailable(fact.host)) return;
    this.availability.set(fact.host, 'rollout', true);
    const room = this.availability.room(this.state.id);
    if (room.total < 0 || room.zone(host.zone) < 0) throw new Error(`starting ${fact.host} exceeds the budget`);
  }

  #count(): void {
    for (const host of this.state.hosts.values()) this.availability.set(host.host, 'rollout', isDisrupted(this.state, host));
  }

  #perform(effect: Effect): void {
    const key = keyOf(effect);
    if ((effect.kind === 'change' || effect.kind === 'undo' || effect.kind === 'record') && this.#running.has(key)) return;
    this.#running.add(key);
    if (effect.kind === 'gate') {
      const { wave, run, delayMs } = effect;
      const report = (): Report => ({ kind: 'gate-answered', run, ...this.#gate(wave) });
      this.#answers.push({ dueT: this.t + delayMs + 1, host: undefined, report });
      return;
    }
    const host = this.#host(effect.host);
    if (effect.kind === 'check') {
      const { run, delayMs } = effect;
      const answer = host.behaviour === 'unhealthy' ? 'failure' : 'success';
      const report = (): Report => ({ kind: 'checked', host: host.name, run, answer, detail: 'as the test says' });
      this.#answers.push({ dueT: this.t + delayMs + 1, host: host.name, report });
      return;
    }
    if (effect.kind !== 'record' && host.behaviour === 'silent') return;
    const dueT = this.t + (effect.kind === 'record' ? 1 : (host.tookMs ?? 1000));
    this.#answers.push({ dueT, host: host.name, report: () => this.#runOnce(host, key, effect) });
  }

  /** As the hub's, which asks hosts where this one looks at them. */
  #gate(wave: number): Comparison {
    for (const check of this.spec.waves[wave]?.gate?.checks ?? []) {
      const comparison =
        check.kind === 'control' ? this.#compare(check) : { answer: this.gateAnswer, detail: 'as the test says' };
      if (comparison.answer !== 'success') return comparison;
    }
    return { answer: 'success', detail: '' };
  }

  #compare(check: ControlCheck): Comparison {
    const standingOf = (name: string): Standing => {
      const { agentVersion, hardware } = candidate(this.#host(name));
      const [isInOtherHands, isChangedByOthers] = [this.taken.has(name), this.meddled.has(name)];
      return { agentVersion, hardware, isInOtherHands, isChangedByOthers, hasComeBack: this.#host(name).up };
    };
    const groups = drawGroups(this.state, standingOf, check.hosts);
    const look = (host: string): Look => ({ host, answer: this.isWell(host) ? 'good' : 'bad', why: 'VM web is crashed' });
    const comparison = compareGroups(check, groups.changed.map(look), groups.control.map(look));
    this.compared.push({ ...groups, ...comparison });
    this.#checkGroups(groups, check, comparison);
    return comparison;
  }

  isWell(name: string): boolean {
    const { up, behaviour, value } = this.#host(name);
    return up && !this.sick.has(name) && (behaviour !== 'unhealthy' || value === ORIGINAL);
  }

  /** @throws Error */
  #checkGroups({ changed, control }: Groups, { hosts, maxControlFailures }: ControlCheck, { answer }: Comparison): void {
    if (changed.length > hosts || control.length > hosts) throw new Error('a group is larger than was asked for');
    const wrong = control.find((name) => this.#host(name).value !== ORIGINAL || this.state.hosts.get(name)?.touched !== false);
    if (wrong !== undefined) throw new Error(`${wrong} is in the control group and was changed`);
    const untouched = changed.find((name) => this.state.hosts.get(name)?.touched !== true);
    if (untouched !== undefined) throw new Error(`${untouched} is among the changed hosts and was not touched`);
    const bad = control.filter((name) => !this.isWell(name)).length;
    if (answer !== 'inconclusive' && bad > amountOf(maxControlFailures, control.length, (value) => value))
      throw new Error(`${bad} of ${control.length} unchanged hosts are bad, and the change is judged all the same`);
  }

  /** What the host's journal is for. */
  #runOnce(host: Host, key: string, effect: Exclude<Effect, { kind: 'gate' | 'check' }>): Report {
    if (effect.kind === 'record') return { kind: 'recorded', host: host.name, attempt: effect.attempt, previous: [host.value] };
    const known = host.ran.get(key);
    if (known !== undefined) return known;
    this.begun.push({ key, seq: this.log.length });
    const report = effect.kind === 'change' ? this.#change(host, effect.attempt) : this.#undo(host, effect.attempt);
    host.ran.set(key, report);
    return report;
  }

  #change(host: Host, attempt: number): Report {
    const { behaviour = 'ok', name } = host;
    const works =
      behaviour === 'ok' || behaviour === 'unhealthy' || behaviour === 'undo-fails' || (behaviour === 'ok-later' && attempt > 1);
    host.value = works ? `new ${attempt}` : `half ${attempt}`;
    if (works || behaviour === 'silent') return { kind: 'changed', host: name, attempt };
    return {
      kind: 'failed',
      host: name,
      attempt,
      class: behaviour === 'ok-later' ? 'failed' : behaviour,
      error: behaviour,
    };
  }

  #undo(host: Host, attempt: number): Report {
    if (host.behaviour === 'undo-fails') return { kind: 'undo-failed', host: host.name, attempt, error: 'as the test says' };
    host.value = String(this.state.hosts.get(host.name)?.previous?.[0]);
    return { kind: 'restored', host: host.name, attempt };
  }

  #host(name: string): Host {
    const host = this.hosts.get(name);
    if (host === undefined) throw new Error(`no host ${name}`);
    return host;
  }

  addJoiner(name: string, host: SimHost): void {
    const joined = { ...host, name, value: ORIGINAL, up: true, ran: new Map() };
    this.hosts.set(name, joined);
    this.joiners.push(candidate(joined));
  }
}

function candidate({ name, zone, agentVersion = '1.0.0', hardware = 'a' }: Host): Candidate {
  return { host: name, zone, agentVersion, hardware };
}

/** `count` hosts `h0`, `h1`, … over zones `a`, `b`, …. */
export function fleetOf(count: number, zones = 1, of: (index: number) => Partial<SimHost> = () => ({})): Record<string, SimHost> {
  const entry = (index: number): [string, SimHost] => [
    `h${index}`,
    { zone: String.fromCharCode('a'.charCodeAt(0) + (index % zones)), ...of(index) },
  ];
  return Object.fromEntries(Array.from({ length: count }, (_, index) => entry(index)));
}

/** Of the state, what its events say; checks under way and times of the last look are not in them. */
export function journalled(state: RolloutState): unknown {
  const hosts = [...state.hosts.values()].map((host) => ({ ...host, checks: undefined }));
  const { phase, paused, wave, lastWave, stage, approvedBy, maxInFlight, window, grownBy, started, acceptedFailures } = state;
  const kind = phase.kind === 'ended' ? phase : phase.kind;
  return { hosts, kind, paused, wave, lastWave, stage, approvedBy, maxInFlight, window, grownBy, started, acceptedFailures };
}
