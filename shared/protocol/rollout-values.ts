/** Small values of which a rollout's spec is made: amounts and shares of hosts, times, and what a broken rule has for a consequence. */
import * as v from 'valibot';

const DAY_MS = 24 * 3600 * 1000;
export const MAX_HOSTS = 100_000;

export const whole = (least: number, most: number) => v.pipe(v.number(), v.integer(), v.minValue(least), v.maxValue(most));
export const milliseconds = (least = 0) => whole(least, 30 * DAY_MS);
export const text = (most: number) => v.pipe(v.string(), v.maxLength(most));

const SHARE = /^(?:100(?:\.0{1,3})?|\d{1,2}(?:\.\d{1,3})?)%$/;

/** Of hosts, from 0% to 100%. */
export const Share = v.pipe(v.string(), v.regex(SHARE, 'must be a share such as "10%"'));

export const Amount = v.union([
  whole(0, MAX_HOSTS),
  v.pipe(v.string(), v.regex(SHARE, 'must be a number of hosts, or a share such as "10%"')),
]);
export type Amount = v.InferOutput<typeof Amount>;

/** `abort` ends it where it is, `rollback` takes it back, `pause` asks a person. */
export const Reaction = v.picklist(['pause', 'abort', 'rollback']);
export type Reaction = v.InferOutput<typeof Reaction>;

/** Of `total` hosts. */
export function amountOf(amount: Amount, total: number, round: (value: number) => number): number {
  if (typeof amount === 'number') return amount;
  // A share such as 7% of 100 is 7.000000000000001 otherwise.
  return round(Number(((Number.parseFloat(amount) * total) / 100).toFixed(6)));
}

/** From 0 to 1. */
export function fractionOf(share: string): number {
  return Number.parseFloat(share) / 100;
}
