/** A caller with the types of the method table: params checked by the compiler, results checked at run time. */
import type { JsonObject } from '../errors.ts';
import type { MethodName, Result } from './methods.ts';
import type { OperatorParams } from './operator.ts';
import { parseResult } from './validate.ts';

/** An untyped call, such as `(method, params, options) => peer.call(method, params, options)` or one over HTTP. */
export type UntypedCall<Options> = (method: string, params: JsonObject, options?: Options) => Promise<unknown>;

/**
 * `call('vm.start', {vm: 'web'})`, with `host` besides in the params of an agent method. Rejects with the FairleadError of the call, or
 * PROTOCOL_ERROR for a result of the wrong shape.
 */
export type OperatorCaller<Options> = <M extends MethodName>(
  method: M,
  params: OperatorParams<M>,
  options?: Options,
) => Promise<Result<M>>;

export function typedCaller<Options>(call: UntypedCall<Options>): OperatorCaller<Options> {
  return async (method, params, options) => {
    // SAFETY: the params of every method are an object of JSON values (a test holds the table to that); they are parsed by the callee.
    const json = params as JsonObject;
    return parseResult(method, await call(method, json, options));
  };
}
