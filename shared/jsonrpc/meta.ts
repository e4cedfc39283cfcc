/**
 * `params._meta`: what travels with a call and is no parameter of it.
 *
 * `timeoutMs` is the time that is left, so that clocks need not agree: absent means the callee's default, 0 means no deadline, a
 * negative number has expired on the way. `progressToken` asks for `$/progress`. `traceparent`, `tracestate` and `baggage` are the
 * headers of those names (W3C Trace Context, W3C Baggage). Unknown fields are kept, so that a newer caller is not refused.
 */
import * as v from 'valibot';
import type { JsonObject } from '../errors.ts';
import { parseWith } from '../protocol/parse-with.ts';
import { isJsonObject } from './envelope.ts';
import type { TraceContext } from './types.ts';

/** The longest delay that timers take (2^31 - 1 ms, 24 days). */
export const MAX_TIMEOUT_MS = 2_147_483_647;

const ProgressToken = v.union([v.pipe(v.string(), v.minLength(1), v.maxLength(128)), v.pipe(v.number(), v.safeInteger())]);
export type ProgressToken = v.InferOutput<typeof ProgressToken>;

const Meta = v.looseObject({
  timeoutMs: v.optional(v.pipe(v.number(), v.finite(), v.maxValue(MAX_TIMEOUT_MS))),
  progressToken: v.optional(ProgressToken),
});

export interface CallMeta {
  readonly timeoutMs: number | undefined;
  readonly progressToken: ProgressToken | undefined;
  readonly trace: TraceContext;
  /** Everything but `timeoutMs` and `progressToken`, which are for one hop only. */
  readonly rest: JsonObject;
}

/** Takes `_meta` out of params. Throws INVALID_PARAMS for a malformed field; a malformed trace is ignored, as its standard demands. */
export function splitMeta(paramsWithMeta: JsonObject): { readonly params: JsonObject; readonly meta: CallMeta } {
  if (!('_meta' in paramsWithMeta)) return { params: paramsWithMeta, meta: NO_META };
  const { _meta, ...params } = paramsWithMeta;
  if (_meta === undefined) return { params, meta: NO_META };
  if (isDeadlineAlone(_meta)) return { params, meta: { ...NO_META, timeoutMs: _meta.timeoutMs } };
  const { timeoutMs, progressToken, ...rest } = parseWith(Meta, _meta, 'params._meta');
  // SAFETY: `rest` came out of JSON.parse, so its values are JSON.
  const json = rest as JsonObject;
  return { params, meta: { timeoutMs, progressToken, trace: readTrace(json), rest: json } };
}

const NO_META: CallMeta = { timeoutMs: undefined, progressToken: undefined, trace: {}, rest: {} };

/** What most calls carry: told by hand, because every call on every hop is. */
function isDeadlineAlone(meta: unknown): meta is { readonly timeoutMs: number } {
  if (!isJsonObject(meta) || Object.keys(meta).length !== 1) return false;
  const { timeoutMs } = meta;
  return typeof timeoutMs === 'number' && timeoutMs <= MAX_TIMEOUT_MS && timeoutMs >= -MAX_TIMEOUT_MS;
}

/** W3C Trace Context §3.2: version 00 has exactly four fields, later ones may have more; ff and all-zero ids are invalid. */
const TRACEPARENT = /^(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?<more>-.*)?$/;
/** The least that the standards ask a carrier to pass on. */
const MAX_TRACEPARENT = 256;
const MAX_TRACESTATE = 512;
const MAX_BAGGAGE = 8192;

export function isTraceparent(value: unknown): value is string {
  if (typeof value !== 'string' || value.length > MAX_TRACEPARENT) return false;
  const match = TRACEPARENT.exec(value);
  return match !== null && (match.groups?.['more'] === undefined || !value.startsWith('00'));
}

/** A tracestate without a valid traceparent means nothing and is dropped; baggage stands by itself. */
function readTrace(meta: JsonObject): TraceContext {
  const { traceparent, tracestate, baggage } = meta;
  return {
    ...(isTraceparent(traceparent) ? { traceparent } : {}),
    ...(isTraceparent(traceparent) && isShort(tracestate, MAX_TRACESTATE) ? { tracestate } : {}),
    ...(isShort(baggage, MAX_BAGGAGE) ? { baggage } : {}),
  };
}

function isShort(value: unknown, max: number): value is string {
  return typeof value === 'string' && value.length <= max;
}
