/**
 * What goes wrong in a simulated fleet, when and for whom: a script as it is written, and what it means for one host at one moment.
 *
 *     seed: 7                                   the same script does the same to the same hosts
 *     zones: [north, south]                     dealt out in turn, as the label `zone`
 *     vmsPerHost: 2
 *     operation: {min: 20ms, max: 200ms}        how long a VM takes for what is asked of it
 *     faults:
 *       - {kind: slow, hosts: {percent: 10}, factor: 20}
 *       - {kind: failing, hosts: {names: [sim-00007]}, percent: 50, operations: [vm.start], code: INTERNAL}
 *       - {kind: flapping, hosts: {zone: south, percent: 5}, up: 5s, down: 3s}
 *       - {kind: offline, hosts: {zone: north}, from: 30s, for: 20s}        a zone that is down
 *
 * Times count from the start of the fleet. Nothing here has a clock or makes a random number: a hash of the seed decides.
 */
import * as v from 'valibot';
import { FairleadError } from '../../shared/errors.ts';
import { Labels, Name } from '../../shared/protocol/common.ts';
import { type ErrorCode, isErrorCode } from '../../shared/protocol/error-table.ts';
import { hasLabels } from '../../shared/protocol/host-selector.ts';
import { duration } from '../config.ts';

const DAY_MS = 24 * 3_600_000;
const Time = duration(0, DAY_MS);
const Span = duration(1, DAY_MS);
const Percent = v.pipe(v.number(), v.minValue(0), v.maxValue(100));

/** Hosts that match all that is said; without anything, all. `percent` is the share of those that match the rest. */
const Chosen = v.strictObject({
  names: v.optional(v.array(Name)),
  zone: v.optional(v.string()),
  labels: v.optional(Labels, {}),
  percent: v.optional(Percent, 100),
});

const When = { hosts: v.optional(Chosen, {}), from: v.optional(Time, 0), for: v.optional(Span) } as const;

const Fault = v.variant('kind', [
  /** Operations take `factor` times as long. */
  v.strictObject({ kind: v.literal('slow'), ...When, factor: v.optional(v.pipe(v.number(), v.minValue(1)), 10) }),
  /** That share of the operations (all, unless named as methods; of VMs with these labels, where there are any) ends with the error. */
  v.strictObject({
    kind: v.literal('failing'),
    ...When,
    percent: v.optional(Percent, 100),
    operations: v.optional(v.array(v.string())),
    vmLabels: v.optional(Labels, {}),
    code: v.optional(v.custom<ErrorCode>(isErrorCode, 'must be a code of docs/reference/errors.md'), 'INTERNAL'),
  }),
  /** No way to the hub: the line breaks without a word, and no attempt succeeds. */
  v.strictObject({ kind: v.literal('offline'), ...When }),
  /** Now offline, now not; each host at its own moment. */
  v.strictObject({ kind: v.literal('flapping'), ...When, up: v.optional(Span, 10_000), down: v.optional(Span, 5_000) }),
]);
type Fault = v.InferOutput<typeof Fault>;

export const SimScript = v.strictObject({
  seed: v.optional(v.pipe(v.number(), v.safeInteger()), 1),
  zones: v.optional(v.pipe(v.array(v.pipe(v.string(), v.nonEmpty())), v.nonEmpty()), ['zone-a', 'zone-b', 'zone-c']),
  labels: v.optional(Labels, {}),
  vmsPerHost: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(1024)), 1),
  operation: v.optional(v.strictObject({ min: v.optional(Time, 5), max: v.optional(Time, 50) }), {}),
  faults: v.optional(v.array(Fault), []),
});
export type SimScript = v.InferOutput<typeof SimScript>;

export interface SimulatedHost {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** The labels of the host with that number. */
export function labelsOf({ zones, labels }: SimScript, index: number): Record<string, string> {
  // SAFETY: the schema wants one zone at least.
  return { ...labels, zone: zones[index % zones.length]! };
}

/** What the script does to one host. */
export class HostFaults {
  readonly #script: SimScript;
  readonly #host: string;
  readonly #faults: readonly { readonly fault: Fault; readonly index: number }[];
  /** So that two operations of a host do not always have the same fate. */
  #operations = 0;

  constructor(script: SimScript, host: SimulatedHost) {
    this.#script = script;
    this.#host = host.name;
    this.#faults = script.faults
      .map((fault, index) => ({ fault, index }))
      .filter(({ fault, index }) => isChosen(fault, host, `${script.seed}/${index}`));
  }

  /** Whether it can ever be cut off. */
  get hasWeather(): boolean {
    return this.#faults.some(({ fault }) => fault.kind === 'offline' || fault.kind === 'flapping');
  }

  isOnline(atMs: number): boolean {
    return !this.#faults.some(({ fault, index }) => {
      if (!isNow(fault, atMs)) return false;
      if (fault.kind === 'offline') return true;
      if (fault.kind !== 'flapping') return false;
      const cycleMs = fault.up + fault.down;
      const phaseMs = share(`${this.#script.seed}/${index}/phase/${this.#host}`) * cycleMs;
      return (atMs - fault.from + phaseMs) % cycleMs >= fault.up;
    });
  }

  /** How the next operation goes: after how long, and with which error, if so. `vmLabels`: of the VM that it is for. */
  next(
    method: string,
    atMs: number,
    vmLabels: Readonly<Record<string, string>> = {},
  ): { readonly delayMs: number; readonly error: FairleadError | undefined } {
    const { seed, operation } = this.#script;
    const draw = `${seed}/${this.#host}/${this.#operations++}`;
    let delayMs = operation.min + share(draw) * Math.max(0, operation.max - operation.min);
    let error: FairleadError | undefined;
    for (const { fault, index } of this.#faults) {
      if (!isNow(fault, atMs)) continue;
      if (fault.kind === 'slow') delayMs *= fault.factor;
      if (fault.kind !== 'failing' || !(fault.operations?.includes(method) ?? true)) continue;
      if (!hasLabels(vmLabels, fault.vmLabels)) continue;
      if (share(`${draw}/${index}`) * 100 >= fault.percent) continue;
      error ??= new FairleadError(fault.code, `${method} fails on ${this.#host}, as the script of the simulation says`);
    }
    return { delayMs, error };
  }
}

function isChosen({ hosts }: Fault, { name, labels }: SimulatedHost, salt: string): boolean {
  if (hosts.names !== undefined && !hosts.names.includes(name)) return false;
  if (hosts.zone !== undefined && labels['zone'] !== hosts.zone) return false;
  if (Object.entries(hosts.labels).some(([key, value]) => labels[key] !== value)) return false;
  return share(`${salt}/${name}`) * 100 < hosts.percent;
}

function isNow(fault: Fault, atMs: number): boolean {
  return atMs >= fault.from && (fault.for === undefined || atMs < fault.from + fault.for);
}

/** A number of [0, 1) that looks random and is always the same for the same text (FNV-1a, finished as MurmurHash3 does). */
function share(text: string): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return ((hash ^ (hash >>> 16)) >>> 0) / 2 ** 32;
}
