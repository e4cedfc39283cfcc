/** From a request of the hub to its handler: policy, params by the contract, the call, and a count of how it ended. */
import { FairleadError, type JsonObject, toFairleadError } from '../../shared/errors.ts';
import type { RequestContext } from '../../shared/jsonrpc/types.ts';
import type { ErrorCode } from '../../shared/protocol/error-table.ts';
import { isMethodName, type MethodName, methodContract } from '../../shared/protocol/methods.ts';
import { parseParams } from '../../shared/protocol/validate.ts';
import type { CallName, HandlerContext, Handlers } from './handlers/types.ts';
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
}

export class Dispatcher {
  readonly #options: DispatcherOptions;

  constructor(options: DispatcherOptions) {
    this.#options = options;
  }

  /** What it rejects with goes to the caller. */
  request(method: string, params: JsonObject, context: RequestContext): Promise<unknown> {
    const { handlers, policy } = this.#options;
    if (!isCall(method, handlers)) return Promise.reject(unknownMethod(method));
    return observed(this.#options.observer, method, () => {
      policy.checkMethod(method);
      return invoke(handlers, method, params, {
        cancellation: context.cancellation,
        get signal() {
          return context.signal;
        },
        timeoutMs: context.remainingMs(),
        progress: (value) => context.progress(value),
      });
    });
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
function invoke<M extends CallName>(handlers: Handlers, method: M, params: unknown, context: HandlerContext): unknown {
  return handlers[method](parseParams(method, params), context);
}

function isCall(method: string, handlers: Handlers): method is CallName {
  return Object.hasOwn(handlers, method);
}

function unknownMethod(method: string): FairleadError {
  if (!isMethodName(method))
    return new FairleadError('METHOD_NOT_FOUND', `this agent knows no method ${JSON.stringify(method.slice(0, 64))}`);
  const { target, kind } = methodContract(method);
  const why = kind === 'stream' ? 'opens a stream: it is called by an OPEN frame' : `is answered by the ${target}`;
  return new FairleadError('INVALID_REQUEST', `${method} ${why}`);
}
