/** The plan of a rollout: its hosts, frozen and in order, and what the operator wants to know before it begins. */
import * as v from 'valibot';
import { Count, Name } from './common.ts';

const Digest = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/));
const Zone = v.pipe(v.string(), v.maxLength(255));

/** One host of the selection, as it was when the plan was made. */
export const PlannedHost = v.strictObject({
  host: Name,
  zone: Zone,
  wave: Count,
  /** It had no line then. */
  away: v.optional(v.literal(true)),
});
export type PlannedHost = v.InferOutput<typeof PlannedHost>;

export const RolloutPlan = v.strictObject({
  /** SHA-256 of the spec as canonical JSON. */
  revision: Digest,
  /** SHA-256 of the hosts, whatever their order: two plans with the same one are for the same hosts. */
  hostsDigest: Digest,
  /** In the order in which they are started. */
  hosts: v.array(PlannedHost),
});
export type RolloutPlan = v.InferOutput<typeof RolloutPlan>;

export const WaveForecast = v.strictObject({
  wave: Count,
  hosts: Count,
  zones: v.record(Zone, Count),
  durationMs: Count,
  /** Hosts of each side that its gate compares, at most. */
  compared: v.optional(v.strictObject({ changed: Count, unchanged: Count })),
});
export type WaveForecast = v.InferOutput<typeof WaveForecast>;

export const ZoneForecast = v.strictObject({
  zone: Zone,
  hosts: Count,
  /** Hosts of it that this rollout can keep from their work at once, at worst. */
  worstUnavailable: Count,
});
export type ZoneForecast = v.InferOutput<typeof ZoneForecast>;

export const RolloutForecast = v.strictObject({
  revision: Digest,
  hostsDigest: Digest,
  hosts: Count,
  waves: v.array(WaveForecast),
  zones: v.array(ZoneForecast),
  worstUnavailable: Count,
  /** Of hosts that take `expectedHostMs` each, with every soak; without gates, windows and people. */
  durationMs: Count,
  /** The first wave, or the first 100 of it. */
  canary: v.array(Name),
});
export type RolloutForecast = v.InferOutput<typeof RolloutForecast>;
