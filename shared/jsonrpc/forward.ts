/** Passing a request on: the options that make a call of ours stand in for the one that is being answered. */
import type { CallOptions, RequestContext } from './types.ts';

/**
 * Cancellation, remaining time, progress and trace go through; `_meta` fields beyond the trace do not, since they come from the caller
 * and the next hop would take them for ours.
 *
 *     onRequest: (method, params, context) => agent.call(method, params, forwardOptions(context))
 */
export function forwardOptions(context: RequestContext): CallOptions {
  const remainingMs = context.remainingMs();
  return {
    // At least 1: 0 would lift the deadline. One that has passed has aborted the signal as well, or is about to.
    timeoutMs: remainingMs === undefined ? 0 : Math.max(1, remainingMs),
    onProgress: context.wantsProgress ? context.progress : undefined,
    trace: context.trace,
    signal: context.cancellation,
  };
}
