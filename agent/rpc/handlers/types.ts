/** The shape of a handler: validated params in, a result of the contract out. */
import type { Cancellation } from '../../../shared/cancellation.ts';
import type { AgentMethodName, Params, Result, StreamMethodName } from '../../../shared/protocol/methods.ts';

export interface HandlerContext {
  /** Fires when the caller cancels, the deadline passes or the line drops. */
  readonly signal: AbortSignal;
  /** The same, for what needs no AbortSignal: it costs less. */
  readonly cancellation: Cancellation;
  readonly timeoutMs: number | undefined;
  /** Of a call that is journalled. */
  readonly commandId?: string | undefined;
  progress(value: unknown): void;
}

/** Methods called by a request, and not by an OPEN frame. */
export type CallName = Exclude<AgentMethodName, StreamMethodName>;

export type Handlers = {
  readonly [M in CallName]: (params: Params<M>, context: HandlerContext) => Promise<Result<M>> | Result<M>;
};

/** The handlers of one group of the contract's table. */
export type HandlersOf<Group> = Pick<Handlers, Extract<keyof Group, CallName>>;
