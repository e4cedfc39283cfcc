/** How a rollout sees whether a change is good: of each host after its change, and at the gate between a wave and the next. */
import * as v from 'valibot';
import { VsockPort } from './common.ts';
import { milliseconds, Reaction, Share, text, whole } from './rollout-values.ts';

const MAX_CHECKS = 8;
/** Hosts of each side that a gate compares, and that a webhook is told. */
export const MAX_GROUP = 100;

/** `vm-state`: the VMs that the steps are about run, and are ready where their spec says how that is told. */
const VmStateCheck = v.strictObject({ kind: v.literal('vm-state') });

/** A connection to a port of each guest; with `expect`, what it says begins with or contains that text. */
const GuestProbe = v.strictObject({
  kind: v.literal('guest-probe'),
  port: VsockPort,
  send: v.optional(text(1024)),
  expect: v.optional(text(1024)),
});

/**
 * A POST of what is asked about. Status 200 with `{"verdict": "success" | "failure" | "inconclusive"}` or without a body (success); whatever
 * else comes is inconclusive.
 */
const Webhook = v.strictObject({ kind: v.literal('webhook'), url: v.pipe(text(2048), v.url(), v.regex(/^https?:/)) });

const HostCheck = v.variant('kind', [VmStateCheck, GuestProbe, Webhook]);
export type Check = v.InferOutput<typeof HostCheck>;

/**
 * Hosts that were changed against hosts that wait for their turn, both asked the same at the same time: what befalls the whole fleet is not
 * blamed on the change, and does not hide what the change does.
 */
const ControlCheck = v.strictObject({
  kind: v.literal('control'),
  /** What each host is asked; without it, what `health` asks. */
  checks: v.optional(v.pipe(v.array(HostCheck), v.minLength(1), v.maxLength(MAX_CHECKS))),
  /** Hosts that are asked of each side, at most. */
  hosts: v.optional(whole(1, MAX_GROUP), 20),
  /** With fewer unchanged hosts that can be asked, nothing can be told. */
  minHosts: v.optional(whole(1, MAX_GROUP), 3),
  /** By how much the share of bad hosts may be greater among the changed ones; beyond it, the gate has failed. */
  maxExcess: v.optional(Share, '5%'),
  /** With a greater share of bad hosts among the unchanged ones, nothing can be told: something befalls the fleet. */
  maxControlFailures: v.optional(Share, '20%'),
});
export type ControlCheck = v.InferOutput<typeof ControlCheck>;

const rounds = {
  /** Time of one check; of a host that a control group is made of, for all of them. */
  timeoutMs: v.optional(milliseconds(100), 10_000),
  /** Between two rounds of all checks. */
  intervalMs: v.optional(milliseconds(100), 5_000),
  /** So many good rounds on end pass, so many bad ones on end fail. */
  successes: v.optional(whole(1, 1000), 1),
  failures: v.optional(whole(1, 1000), 3),
  /** By when it must have passed; what is not known by then is inconclusive. */
  deadlineMs: v.optional(milliseconds(100), 300_000),
} as const;

/** Of each host after its change. A guest that is starting may fail until the deadline; once it was healthy, `failures` counts. */
export const Health = v.strictObject({
  checks: v.optional(v.pipe(v.array(HostCheck), v.maxLength(MAX_CHECKS)), []),
  ...rounds,
  /** How long it must have been healthy on end. */
  minHealthyMs: v.optional(milliseconds(), 0),
});
export type HealthRules = v.InferOutput<typeof Health>;

/** Between a wave and the next. What is inconclusive always pauses. */
export const Gate = v.strictObject({
  checks: v.pipe(v.array(v.variant('kind', [Webhook, ControlCheck])), v.minLength(1), v.maxLength(MAX_CHECKS)),
  ...rounds,
  onFailure: v.optional(Reaction, 'pause'),
});
export type GateRules = v.InferOutput<typeof Gate>;
