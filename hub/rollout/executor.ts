/**
 * Does what the core asks for, and reports what came of it. What runs under a key already is not begun again. Nothing here is decided: an executor
 * that is thrown away loses nothing, for the next one begins the same commands under the same ids.
 */
import { type FairleadError, toFairleadError } from '../../shared/errors.ts';
import type { ErrorCode } from '../../shared/protocol/error-table.ts';
import type { Fence } from '../../shared/protocol/fence.ts';
import { type GateRules, MAX_GROUP } from '../../shared/protocol/rollout-checks.ts';
import type { FailureClass } from '../../shared/protocol/rollout-spec.ts';
import type { Actuator, Observation } from './actuator.ts';
import { type Bystanders, COMING_BACK } from './bystanders.ts';
import { drawGroups } from './core/control-group.ts';
import { type Effect, keyOf } from './core/effects.ts';
import type { Report } from './core/hear-report.ts';
import type { HostState, RolloutState } from './core/state.ts';
import { figuresOf } from './core/status.ts';
import { checkHost } from './on-host/checks.ts';
import { askGate } from './on-host/gate-round.ts';
import { HostCommands } from './on-host/host-commands.ts';
import { changeHost, recordHost, restoreHost } from './on-host/host-work.ts';

export interface ExecutorOptions {
  readonly actuator: Actuator;
  readonly bystanders: Bystanders;
  readonly fence: Fence;
  /** For the records of the hosts. */
  readonly actor: string;
  readonly now: () => number;
  readonly sleep: (ms: number, signal: AbortSignal) => Promise<void>;
  readonly onReport: (report: Report) => void;
  /** A host knows of a later driver: this one must stop. */
  readonly onFenced: () => void;
  /** A fault of ours. */
  readonly onFault: (error: unknown, effect: Effect) => void;
}

const REJECTIONS: ReadonlySet<ErrorCode> = new Set([
  'INVALID_REQUEST',
  'METHOD_NOT_FOUND',
  'INVALID_PARAMS',
  'PERMISSION_DENIED',
  'UNAUTHENTICATED',
  'UNSUPPORTED',
]);

export class Executor {
  readonly #options: ExecutorOptions;
  readonly #running = new Set<string>();
  readonly #leaving = new AbortController();

  constructor(options: ExecutorOptions) {
    this.#options = options;
  }

  perform(state: RolloutState, effect: Effect): void {
    const key = keyOf(effect);
    if (this.#running.has(key) || this.#leaving.signal.aborted) return;
    this.#running.add(key);
    void this.#perform(state, effect).then((report) => {
      this.#running.delete(key);
      if (report !== undefined && !this.#leaving.signal.aborted) this.#options.onReport(report);
    });
  }

  /** Nothing is sent or reported after this. What hosts are doing, they end. */
  stop(): void {
    this.#leaving.abort();
  }

  async #perform(state: RolloutState, effect: Effect): Promise<Report | undefined> {
    try {
      if (effect.kind === 'gate') return await this.#askGate(state, effect);
      const host = state.hosts.get(effect.host);
      if (host === undefined) return undefined;
      return effect.kind === 'check' ? await this.#askHost(state, host, effect) : await this.#runOnHost(state, host, effect);
    } catch (error) {
      if (!this.#leaving.signal.aborted) this.#options.onFault(error, effect);
      return undefined;
    }
  }

  async #runOnHost(
    state: RolloutState,
    host: HostState,
    effect: Extract<Effect, { kind: 'record' | 'change' | 'undo' }>,
  ): Promise<Report | undefined> {
    const { kind, attempt } = effect;
    const about = { host: host.host, attempt } as const;
    const commands = this.#commands(host, [state.id, kind, host.host, attempt], state.spec.hostTimeoutMs);
    try {
      if (kind === 'record') return { kind: 'recorded', ...about, previous: await recordHost(state.spec, commands) };
      const { previous = [] } = host;
      if (kind === 'change') await changeHost(state.spec, previous, commands);
      else await restoreHost(state.spec, previous, commands);
      return { kind: kind === 'change' ? 'changed' : 'restored', ...about };
    } catch (thrown) {
      const error = toFairleadError(thrown);
      if (this.#leaving.signal.aborted) return undefined;
      if (error.code === 'FENCED') {
        this.#options.onFenced();
        return undefined;
      }
      const words = `${error.message} (${error.code})`;
      if (kind === 'undo') return { kind: 'undo-failed', ...about, error: words };
      return { kind: 'failed', ...about, class: this.#classOf(error, host), error: words };
    }
  }

  async #askHost(state: RolloutState, host: HostState, { run, delayMs }: Extract<Effect, { kind: 'check' }>): Promise<Report> {
    const { signal } = this.#leaving;
    await this.#options.sleep(delayMs, signal);
    const { health } = state.spec;
    const { answer, detail } = await checkHost({
      rollout: state.id,
      rules: health,
      actuator: this.#options.actuator,
      commands: this.#commands(host, [state.id, 'check', host.host, run], health.timeoutMs),
      previous: host.previous ?? [],
      signal,
    });
    return { kind: 'checked', host: host.host, run, answer, detail };
  }

  async #askGate(state: RolloutState, { wave, run, delayMs }: Extract<Effect, { kind: 'gate' }>): Promise<Report | undefined> {
    const { signal } = this.#leaving;
    const rules = state.spec.waves[wave]?.gate;
    if (rules === undefined) return undefined;
    await this.#options.sleep(delayMs, signal);
    const { answer, detail } = await this.#observeGate(state, wave, rules);
    return { kind: 'gate-answered', run, answer, detail };
  }

  async #observeGate(state: RolloutState, wave: number, rules: GateRules): Promise<Observation> {
    const { actuator, bystanders, now } = this.#options;
    const { phases, failures, hosts } = figuresOf(state);
    try {
      return await askGate({
        rollout: state.id,
        wave,
        rules,
        health: state.spec.health,
        steps: state.spec.steps,
        figures: { phases, failures, hosts },
        groups: drawGroups(state, await bystanders.look(), MAX_GROUP),
        unsettled: bystanders.isSettling ? COMING_BACK : undefined,
        previousOf: (host) => state.hosts.get(host)?.previous ?? [],
        sinceMs: bystanders.sinceMs,
        actuator,
        now,
        signal: this.#leaving.signal,
      });
    } catch (thrown) {
      this.#leaving.signal.throwIfAborted();
      return { answer: 'inconclusive', detail: toFairleadError(thrown).message };
    }
  }

  #commands(host: HostState, name: readonly (string | number)[], timeoutMs: number): HostCommands {
    const { actuator, fence, actor, now, sleep } = this.#options;
    const { begunAtMs } = host;
    const { signal } = this.#leaving;
    const deadline = now() + timeoutMs;
    return new HostCommands({ actuator, host: host.host, name, begunAtMs, actor, fence, deadline, now, signal, sleep });
  }

  #classOf({ code }: FairleadError, { host }: HostState): FailureClass {
    if (REJECTIONS.has(code)) return 'rejected';
    if (code === 'HOST_UNREACHABLE' || code === 'INTERRUPTED') return 'unreachable';
    if (code === 'TIMEOUT') return this.#options.actuator.isUp(host) ? 'timed-out' : 'unreachable';
    return 'failed';
  }
}
