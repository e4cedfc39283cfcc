/**
 * Agent methods as operators call them: with one field more, `host`, which the hub takes out before it sends the call on.
 *
 * The hub forwards the params as the caller wrote them, never its own parsed copy: that has defaults filled in which an agent of an
 * older contract would refuse as unknown fields.
 */
import type { JsonObject } from '../errors.ts';
import { HostSelector, type MethodName, type Methods, methodContract, type ParamsInput } from './methods.ts';
import { parseWith } from './parse-with.ts';

/** What an operator may write as params of M. */
export type OperatorParams<M extends MethodName> = Methods[M]['target'] extends 'agent'
  ? ParamsInput<M> & { readonly host?: string | undefined }
  : ParamsInput<M>;

export interface HostCall {
  /** Undefined when the caller left it to the hub to find the host. */
  readonly host: string | undefined;
  /** What the agent gets. */
  readonly params: JsonObject;
}

/** Takes `host` out of an agent method's params; those of hub methods stay whole. Throws INVALID_PARAMS when it is no host name. */
export function splitHost(method: MethodName, params: JsonObject): HostCall {
  if (methodContract(method).target === 'hub') return { host: undefined, params };
  if (!('host' in params)) return { host: undefined, params };
  const { host, ...rest } = params;
  return { host: parseWith(HostSelector, host, 'params.host'), params: rest };
}
