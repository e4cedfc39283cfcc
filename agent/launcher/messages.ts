/**
 * What the launcher and the release that it runs say to each other, over the channel that Node makes between a process and its child. A
 * release may be years younger or older than the launcher, so this protocol only grows: who gets a message that it does not know ignores it.
 *
 *     launcher                              release
 *        │── hello {release, record} ─────────▶│  at its start
 *        │◀───────── stage {update} ───────────│  it has unpacked another one and is about to leave for it
 *        │── staged {id} | refused {id, why} ─▶│  durable, or not; staged, it stops in order and ends
 *        │◀───────── waits {why} ──────────────│  on trial: what it is not healthy for, each time that this changes
 *        │◀───────── healthy ──────────────────│  on trial: it is
 *        │── kept {record} ───────────────────▶│  durable: it stays
 *        │◀───────── connected ────────────────│  once in its life: it has a line to the hub
 *        │── settled {record} ────────────────▶│  it is of use: what it did before does not count any more
 *        │── stop ────────────────────────────▶│  end in order; VMs go on
 *
 * A release whose launcher is gone ends as if it were told to stop: the next launcher begins the next agent.
 */
import type { LauncherRecord, Update } from './record.ts';

/** Set in the environment of whoever runs below a launcher. */
export const LAUNCHED_VARIABLE = 'FAIRLEAD_LAUNCHED';

export type ToRelease =
  | { readonly type: 'hello'; readonly directory: string; readonly release: string; readonly record: LauncherRecord }
  | { readonly type: 'staged'; readonly id: string }
  | { readonly type: 'refused'; readonly id: string; readonly why: string }
  | { readonly type: 'kept'; readonly record: LauncherRecord }
  | { readonly type: 'settled'; readonly record: LauncherRecord }
  | { readonly type: 'stop' };

export type ToLauncher =
  | { readonly type: 'stage'; readonly update: Update }
  | { readonly type: 'waits'; readonly why: string }
  | { readonly type: 'healthy' }
  | { readonly type: 'connected' };

const TYPES: ReadonlySet<unknown> = new Set([
  'stage',
  'waits',
  'healthy',
  'connected',
  'hello',
  'staged',
  'refused',
  'kept',
  'settled',
  'stop',
]);

/** Undefined for what is not known here. The other end is of this program, and known by the channel. */
export function knownMessage<Message extends ToRelease | ToLauncher>(value: unknown): Message | undefined {
  const isKnown = typeof value === 'object' && value !== null && 'type' in value && TYPES.has(value.type);
  // SAFETY: by its type; both ends are Fairlead, and fields of a type never change.
  return isKnown ? (value as Message) : undefined;
}
