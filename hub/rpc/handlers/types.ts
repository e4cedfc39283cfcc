/** The shape of a handler of the hub: validated params in, a result of the contract out. */
import type { RequestContext } from '../../../shared/jsonrpc/types.ts';
import type { HubMethodName, Params, Result } from '../../../shared/protocol/methods.ts';
import type { Caller } from '../caller.ts';

export interface HubCall {
  readonly caller: Caller;
  /** Deadline, cancellation and progress of the call. */
  readonly context: RequestContext;
}

export type HubHandlers = {
  readonly [M in HubMethodName]: (params: Params<M>, call: HubCall) => Result<M> | Promise<Result<M>>;
};

/** The handlers of one group of the contract's table. */
export type HubHandlersOf<Group> = Pick<HubHandlers, Extract<keyof Group, HubMethodName>>;
