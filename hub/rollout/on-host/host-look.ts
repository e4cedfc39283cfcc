/**
 * A look at one host for a comparison: the same questions to a host that was changed and to one that was not, of which nothing is recorded.
 * It is asked only: nothing is begun on it, and no VM that sleeps is woken.
 *
 *     bad       it has no line, does not answer in time, or one of its VMs is
 *               - crashed, panicked or stopped by an I/O error, whenever that was
 *               - at rest, and ran before the change or has ended since the rollout began
 *               - without an answer at the port that is probed, or not ready
 *     untold    it refuses the question, or a webhook cannot tell
 *     good      otherwise; VMs that sleep or were paused are let be
 *
 * Ends are told by the clock of the host: one that is wrong by an hour makes those of one hour too many, or hides them.
 */
import { FairleadError, type JsonObject, toFairleadError } from '../../../shared/errors.ts';
import type { ErrorCode } from '../../../shared/protocol/error-table.ts';
import type { Check } from '../../../shared/protocol/rollout-checks.ts';
import type { Step } from '../../../shared/protocol/rollout-spec.ts';
import type { Actuator } from '../actuator.ts';
import type { Look } from '../core/control-group.ts';
import { isUnready, vmsThatRan } from './checks.ts';
import { isMeant, listVms, type Vm } from './vm-step.ts';

export interface LookOptions {
  readonly rollout: string;
  readonly host: string;
  readonly checks: readonly Check[];
  /** They say which VMs it is about; where none is about VMs, all of the host. */
  readonly steps: readonly Step[];
  /** What was recorded of it before its change; nothing of one that was not changed. */
  readonly previous: readonly unknown[];
  /** When the rollout began, in Unix milliseconds. */
  readonly sinceMs: number;
  readonly actuator: Actuator;
  /** For all of its checks. */
  readonly timeoutMs: number;
  readonly now: () => number;
  readonly signal: AbortSignal;
}

/** Of a VM that is not there any more. */
const GONE = 'gone';
const BROKEN: ReadonlySet<string> = new Set(['crashed', 'panicked', 'io-error', GONE]);
const AT_REST: ReadonlySet<string> = new Set(['created', 'stopped']);
/** Of a host that does not answer; any other error is a refusal. */
const NO_ANSWER: ReadonlySet<ErrorCode> = new Set(['HOST_UNREACHABLE', 'INTERRUPTED', 'TIMEOUT']);

/** Never rejects, but when it is aborted. */
export async function lookAtHost(options: LookOptions): Promise<Look> {
  const { host, actuator, signal } = options;
  if (!actuator.isUp(host)) return { host, answer: 'bad', why: 'has no line' };
  try {
    const { answer, why } = await new HostLook(options).take();
    return { host, answer, why };
  } catch (thrown) {
    signal.throwIfAborted();
    const { code, message } = toFairleadError(thrown);
    return { host, answer: NO_ANSWER.has(code) ? 'bad' : 'untold', why: `${message} (${code})` };
  }
}

type Seen = Omit<Look, 'host'>;

const GOOD: Seen = { answer: 'good', why: '' };
const bad = (why: string): Seen => ({ answer: 'bad', why });

class HostLook {
  readonly #options: LookOptions;
  readonly #deadline: number;

  constructor(options: LookOptions) {
    this.#options = options;
    this.#deadline = options.now() + options.timeoutMs;
  }

  /** @throws FairleadError what the host answers */
  async take(): Promise<Seen> {
    const { checks } = this.#options;
    const vms = checks.some(({ kind }) => kind !== 'webhook') ? await this.#vms() : [];
    for (const vm of vms) {
      const trouble = this.#troubleOf(vm);
      if (trouble !== undefined) return bad(`VM ${vm.name} ${trouble}`);
    }
    for (const check of checks) {
      const seen = await this.#ask(check, vms);
      this.#options.signal.throwIfAborted();
      if (seen.answer !== 'good') return seen;
    }
    return GOOD;
  }

  async #ask(check: Check, vms: readonly Vm[]): Promise<Seen> {
    const { actuator, rollout, host, signal } = this.#options;
    const running = vms.filter(({ state }) => state === 'running');
    if (check.kind === 'vm-state') {
      const unready = running.find(isUnready);
      return unready === undefined ? GOOD : bad(`VM ${unready.name} is not ready`);
    }
    if (check.kind === 'webhook') {
      const { answer, detail } = await actuator.webhook(check.url, { rollout, host }, { timeoutMs: this.#leftMs(), signal });
      if (answer === 'success') return GOOD;
      return { answer: answer === 'failure' ? 'bad' : 'untold', why: detail };
    }
    for (const { name } of running) {
      const { answer, detail } = await actuator.probe(host, { ...check, vm: name, timeoutMs: this.#leftMs(), signal });
      if (answer !== 'success') return bad(detail);
    }
    return GOOD;
  }

  /** Those that are there, and those that ran before the change and are not there any more. */
  async #vms(): Promise<Vm[]> {
    const { actuator, host, steps, previous, signal } = this.#options;
    const ask = (method: string, params: JsonObject) => actuator.ask(host, method, params, { timeoutMs: this.#leftMs(), signal });
    const vms = await listVms({ host, ask });
    const ran = vmsThatRan(previous);
    const gone = ran.filter((name) => vms.every((vm) => vm.name !== name));
    const ofVms = steps.filter((step) => step.kind === 'vm');
    // What a rollout changes may be the labels that named the VM.
    const isAbout = (vm: Vm) => ofVms.length === 0 || ran.includes(vm.name) || ofVms.some((step) => isMeant(step, vm));
    return [...vms.filter(isAbout), ...gone.map((name) => ({ name, state: GONE, ready: false, labels: {}, spec: {} }))];
  }

  #troubleOf({ name, state, exit }: Vm): string | undefined {
    const { previous, sinceMs } = this.#options;
    if (BROKEN.has(state)) return `is ${state}`;
    if (!AT_REST.has(state)) return undefined;
    if (vmsThatRan(previous).includes(name)) return `is ${state}`;
    return exit !== undefined && Date.parse(exit.at) >= sinceMs ? `is ${state} since ${exit.at}` : undefined;
  }

  /** @throws FairleadError TIMEOUT */
  #leftMs(): number {
    const { host, timeoutMs, now } = this.#options;
    const leftMs = Math.ceil(this.#deadline - now());
    if (leftMs > 0) return leftMs;
    throw new FairleadError('TIMEOUT', `host ${host} has not answered all within ${timeoutMs} ms`);
  }
}
