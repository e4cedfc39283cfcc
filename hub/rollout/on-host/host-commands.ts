/**
 * The commands of one attempt on one host, each happening once however often it is sent: over broken lines, restarts of the agent, and hubs
 * that take over.
 *
 *     the answer              and then
 *     a result                goes on with it
 *     the line broke          waits for the host, sends it again under the same id
 *     the result is too long  asks the host whether it was done
 *     the outcome is unknown  sends it under a further id, for every command of a rollout may be repeated
 *     a passing trouble       sends it again a little later
 */
import { FairleadError, type JsonObject, toFairleadError } from '../../../shared/errors.ts';
import type { ErrorCode } from '../../../shared/protocol/error-table.ts';
import type { Fence } from '../../../shared/protocol/fence.ts';
import type { Actuator } from '../actuator.ts';
import { deriveCommandId } from '../command-id.ts';

const LINE_TROUBLE: ReadonlySet<ErrorCode> = new Set(['HOST_UNREACHABLE', 'INTERRUPTED']);
const PASSING_TROUBLE: ReadonlySet<ErrorCode> = new Set(['LIMIT_EXCEEDED', 'JOURNAL_FAILED']);
const RETRY_DELAY_MS = 1000;
const MAX_PASSING = 5;
const MAX_UNKNOWN = 3;

export interface HostCommandsOptions {
  readonly actuator: Actuator;
  readonly host: string;
  /** Names the attempt: rollout, `change` or `undo`, host and number. */
  readonly name: readonly (string | number)[];
  readonly begunAtMs: number;
  readonly actor: string;
  readonly fence: Fence;
  /** By the clock of `now`, which may stand still for a while. */
  readonly deadline: number;
  readonly now: () => number;
  readonly signal: AbortSignal;
  readonly sleep: (ms: number, signal: AbortSignal) => Promise<void>;
}

export class HostCommands {
  readonly #options: HostCommandsOptions;

  constructor(options: HostCommandsOptions) {
    this.#options = options;
  }

  get host(): string {
    return this.#options.host;
  }

  /** `place` tells the command from the others of this attempt. @throws FairleadError what the host answers; TIMEOUT, HOST_UNREACHABLE */
  async run(place: string, method: string, params: JsonObject): Promise<unknown> {
    const { actuator, host, name, begunAtMs, actor, fence, signal } = this.#options;
    let passing = 0;
    let unknown = 0;
    for (;;) {
      const commandId = deriveCommandId(begunAtMs, [...name, place, unknown]);
      try {
        return await actuator.command(host, method, params, { commandId, actor, fence, signal, timeoutMs: this.#leftMs() });
      } catch (thrown) {
        signal.throwIfAborted();
        const error = toFairleadError(thrown);
        if (LINE_TROUBLE.has(error.code)) await this.#awaitLine(error);
        else if (error.code === 'RESULT_NOT_KEPT') return await this.#settled(commandId);
        else if (error.code === 'OUTCOME_UNKNOWN' && ++unknown < MAX_UNKNOWN) continue;
        else if (PASSING_TROUBLE.has(error.code) && ++passing < MAX_PASSING) await this.#pause();
        else throw error;
      }
    }
  }

  /** @throws FairleadError as `run` */
  async ask(method: string, params: JsonObject): Promise<unknown> {
    const { actuator, host, signal } = this.#options;
    for (;;) {
      try {
        return await actuator.ask(host, method, params, { timeoutMs: this.#leftMs(), signal });
      } catch (thrown) {
        signal.throwIfAborted();
        const error = toFairleadError(thrown);
        if (!LINE_TROUBLE.has(error.code)) throw error;
        await this.#awaitLine(error);
      }
    }
  }

  /** Its answer is lost, its record is not. */
  async #settled(commandId: string): Promise<unknown> {
    const record = await this.ask('op.get', { id: commandId });
    const state = typeof record === 'object' && record !== null && 'state' in record ? record.state : undefined;
    if (state === 'done') return {};
    throw new FairleadError(
      'OUTCOME_UNKNOWN',
      `command ${commandId} on host ${this.host} ended as ${String(state)}, its answer was not kept`,
    );
  }

  async #awaitLine(error: FairleadError): Promise<void> {
    const { actuator, host, signal, deadline, now } = this.#options;
    // One whose line has just broken may still seem to be there.
    await this.#pause();
    while (!actuator.isUp(host)) {
      const patience = AbortSignal.any([signal, AbortSignal.timeout(this.#leftMs())]);
      try {
        await actuator.whenUp(host, patience);
      } catch {
        signal.throwIfAborted();
        // Its time may have stood still meanwhile.
        if (!patience.aborted || deadline <= now()) throw error;
      }
    }
  }

  async #pause(): Promise<void> {
    await this.#options.sleep(Math.min(RETRY_DELAY_MS, this.#leftMs()), this.#options.signal);
  }

  /** @throws FairleadError TIMEOUT */
  #leftMs(): number {
    const left = Math.ceil(this.#options.deadline - this.#options.now());
    if (left > 0) return left;
    throw new FairleadError('TIMEOUT', `the time of host ${this.host} is over`);
  }
}
