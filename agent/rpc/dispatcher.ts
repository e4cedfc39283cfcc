/**
 * From a request of the hub to its handler: policy, params by the contract, the call, and a count of how it ended. What changes something
 * goes through the journal (once.ts); the rest is spared it.
 */
import { FairleadError, type JsonObject, toFairleadError } from '../../shared/errors.ts';
import type { RequestContext } from '../../shared/jsonrpc/types.ts';
import { changesSomething } from '../../shared/protocol/changes.ts';
import type { ErrorCode } from '../../shared/protocol/error-table.ts';
import { isMethodName, type MethodName, methodContract } from '../../shared/protocol/methods.ts';
import { parseParams } from '../../shared/protocol/validate.ts';
import type { CallName, HandlerContext, Handlers } from './handlers/types.ts';
import type { Once } from './once.ts';
import type { Policy } from './policy.ts';

/** Told of each call of a method of the contract; for metrics. Must not throw, and not keep the caller waiting. */
export interface RpcObserver {
  started(method: MethodName): void;
  ended(method: MethodName, code: ErrorCode | 'OK', durationMs: number): void;
}

export interface DispatcherOptions {
  readonly handlers: Handlers;
  readonly policy: Policy;
  readonly observer: RpcObserver;
  readonly once: Once;
}

export class Dispatcher {
  readonly #options: DispatcherOptions;
  /** Asked for in every call; among so many properties V8 takes longer to find one. */
  readonly #calls: ReadonlySet<string>;

  constructor(options: DispatcherOptions) {
    this.#options = options;
    this.#calls = new Set(Object.keys(options.handlers));
  }

  /** What it rejects with goes to the caller. */
  request(method: string, params: JsonObject, context: RequestContext): Promise<unknown> {
    const { handlers, policy } = this.#options;
    if (!this.#isCall(method)) return Promise.reject(unknownMethod(method));
    return observed(this.#options.observer, method, () => {
      policy.checkMethod(method);
      if (changesSomething(method, params)) return this.#runOnce(method, params, context);
      const call = prepare(handlers, method, params);
      const { cancellation, signal, progress } = context;
      return call({ cancellation, signal, timeoutMs: context.remainingMs(), progress });
    });
  }

  #isCall(method: string): method is CallName {
    return this.#calls.has(method);
  }

  #runOnce(method: CallName, params: JsonObject, context: RequestContext): Promise<unknown> {
    const { handlers, once } = this.#options;
    // What is malformed is no command, and takes no place in the journal.
    const call = prepare(handlers, method, params);
    return once.run(method, params, context, async ({ commandId, signal, timeoutMs }) =>
      call({ commandId, signal, cancellation: signal, timeoutMs, progress: context.progress }),
    );
  }
}

/** Runs `call` and tells the observer how it went. */
export async function observed<T>(observer: RpcObserver, method: MethodName, call: () => Promise<T> | T): Promise<T> {
  const startedAt = performance.now();
  observer.started(method);
  let code: ErrorCode | 'OK' = 'OK';
  try {
    return await call();
  } catch (error) {
    code = toFairleadError(error).code;
    throw error;
  } finally {
    observer.ended(method, code, performance.now() - startedAt);
  }
}

/** The one place where a method's name, its params and its handler meet: M keeps the three together. */
function prepare<M extends CallName>(handlers: Handlers, method: M, params: unknown): (context: HandlerContext) => unknown {
  const parsed = parseParams(method, params);
  return (context) => handlers[method](parsed, context);
}

function unknownMethod(method: string): FairleadError {
  if (!isMethodName(method))
    return new FairleadError('METHOD_NOT_FOUND', `this agent knows no method ${JSON.stringify(method.slice(0, 64))}`);
  const { target, kind } = methodContract(method);
  const why = kind === 'stream' ? 'opens a stream: it is called by an OPEN frame' : `is answered by the ${target}`;
  return new FairleadError('INVALID_REQUEST', `${method} ${why}`);
}
