/**
 * Which release of the agent a host runs, and what became of its updates: `RELEASES/launcher.json`, of which the launcher is the only
 * writer. One file holds all of it, because two could not be changed in one step.
 *
 *                stage                       begin                      keep
 *     settled ───────────▶ update: staged ───────────▶ update: trying ───────────▶ settled on the new one
 *        ▲                     durable before             durable before │
 *        │                     the old one leaves         the new starts │ it ended, was not healthy in time, or whoever tried it
 *        └───────────────────── on the old one ◀─────────────────────────┘ died (fail; begin finds it `trying`)
 *
 *     settled ── crashed, MAX_CRASHES times in a row before it was of use ──▶ settled on the one before it, if there is one (crashed, wasOfUse)
 *
 * These are functions of records alone: each step is one durable write, and what a crash leaves between any two is what `begin` starts from.
 */

import { join } from 'node:path';

/** The program that the launcher itself belongs to: there without anything having been unpacked. */
export const INSTALLED = 'installed';

/** `sha256:DIGITS`, or INSTALLED. */
export type Release = string;

export interface Update {
  /** Of the command that wants it. */
  readonly id: string;
  readonly release: Release;
  /** How long the new release has to be healthy, in milliseconds. */
  readonly healthTimeoutMs: number;
  /** VMs whose records the old release could not read; a new one that cannot read more is not healthy. */
  readonly brokenVms: readonly string[];
}

export interface Outcome {
  readonly id: string;
  readonly release: Release;
  /** Undefined where the release was kept. */
  readonly failure?: string;
  readonly at: string;
}

/** A release that had proved itself once, and was left later because it crashed over and over. */
export interface Fallback {
  readonly release: Release;
  /** How it ended the last time. */
  readonly failure: string;
  readonly at: string;
}

export interface LauncherRecord {
  readonly current: Release;
  readonly previous?: Release;
  /** How often in a row `current` has crashed before it was of use; not there for never. */
  readonly crashes?: number;
  /** Until another release is kept. */
  readonly fallback?: Fallback;
  readonly update?: Update & { readonly stage: 'staged' | 'trying' };
  /** The newest last. */
  readonly outcomes: readonly Outcome[];
}

export const FIRST_RECORD: LauncherRecord = { current: INSTALLED, outcomes: [] };

/** Whoever wants to know asks within moments: the journal has what is older. */
const KEPT_OUTCOMES = 16;

/** With the waits between them (launcher.ts) half a minute, and as long as the runs themselves took. */
export const MAX_CRASHES = 5;

/** Where a release is unpacked. */
export function releaseDirectory(directory: string, release: Release): string {
  return join(directory, release.replace(':', '-'));
}

/** Where a launcher begins, and goes on when a release has ended: the record as it must be on disk before `release` is started. */
export function begin(record: LauncherRecord, at: string): { record: LauncherRecord; release: Release; isTrial: boolean } {
  const { update } = record;
  if (update?.stage === 'staged') {
    return { record: { ...record, update: { ...update, stage: 'trying' } }, release: update.release, isTrial: true };
  }
  const settled = fail(record, 'the host or the launcher stopped before it was healthy', at);
  return { record: settled, release: settled.current, isTrial: false };
}

/** A string says why it is refused. */
export function stage(record: LauncherRecord, update: Update): LauncherRecord | string {
  if (record.update !== undefined) return `an update to ${record.update.release} is under way`;
  if (record.current === update.release) return `${update.release} runs already`;
  return { ...record, update: { ...update, stage: 'staged' } };
}

/** The release on trial is healthy. Without one, nothing changes. */
export function keep(record: LauncherRecord, at: string): LauncherRecord {
  const { update, current } = record;
  if (update?.stage !== 'trying') return record;
  const { id, release } = update;
  return { current: release, previous: current, outcomes: withOutcome(record, { id, release, at }) };
}

/** The release on trial is not. Without one, nothing changes. */
export function fail(record: LauncherRecord, failure: string, at: string): LauncherRecord {
  const { update, ...settled } = record;
  if (update === undefined) return record;
  const { id, release } = update;
  return { ...settled, outcomes: withOutcome(record, { id, release, failure, at }) };
}

/**
 * The settled release has crashed, and was of no use before: it is counted, and after MAX_CRASHES the release before it takes its place. That one
 * has no other to go back to, so two releases that both crash do not take turns.
 */
export function crashed(record: LauncherRecord, failure: string, at: string): LauncherRecord {
  const { current, previous, outcomes, update } = record;
  if (update !== undefined) return record;
  const crashes = (record.crashes ?? 0) + 1;
  if (crashes < MAX_CRASHES || previous === undefined) return { ...record, crashes };
  return { current: previous, outcomes, fallback: { release: current, failure, at } };
}

/** The settled release is of use: what it did before does not count. */
export function wasOfUse(record: LauncherRecord): LauncherRecord {
  const { crashes, ...rest } = record;
  return crashes === undefined ? record : rest;
}

/** Undefined for a text that is no record. Fields that are not known here go with the next write. */
export function parseRecord(text: string): LauncherRecord | undefined {
  try {
    const value: unknown = JSON.parse(text);
    const isRecord =
      typeof value === 'object' &&
      value !== null &&
      'current' in value &&
      typeof value.current === 'string' &&
      'outcomes' in value &&
      Array.isArray(value.outcomes);
    // SAFETY: written by a launcher in one step; the file is its own, and mode 600.
    return isRecord ? (value as LauncherRecord) : undefined;
  } catch {
    return undefined;
  }
}

function withOutcome({ outcomes }: LauncherRecord, outcome: Outcome): readonly Outcome[] {
  return [...outcomes, outcome].slice(-KEPT_OUTCOMES);
}
