/** What the rest of the agent may ask of its own updating: implemented by updater.ts, and played for simulated hosts. */
import type { Params, Result } from '../../shared/protocol/methods.ts';
import type { PullOptions } from '../images/puller.ts';

export interface UpdateOptions {
  /** By which the next agent finds it in its journal. */
  readonly commandId: string;
  readonly signal: AbortSignal;
  readonly pull: PullOptions;
}

/** `failure` is undefined where the release was kept. */
export interface UpdateOutcome {
  readonly release: string;
  readonly failure: string | undefined;
  readonly runs: Result<'agent.update'>;
}

export interface Updates {
  release(): Promise<Result<'agent.release'>>;
  /**
   * Rejects with HandOver when the other release is about to be tried: the command is then for the next agent to end.
   * @throws FairleadError UNSUPPORTED, PERMISSION_DENIED, CONFLICT, STORAGE_FAILED, PROTOCOL_ERROR
   */
  update(params: Params<'agent.update'>, options: UpdateOptions): Promise<Result<'agent.update'>>;
  /** What became of an update that an earlier agent was given; waits while it is on trial. Undefined for one that had not begun. */
  outcomeOf(commandId: string): Promise<UpdateOutcome | undefined>;
}
