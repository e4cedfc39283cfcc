/**
 * Ids of a rollout's commands. They follow from what the command is for, so that whoever drives the rollout, before a crash or after it, gives the
 * same command the same id and the host answers a repeat from its journal. Their form is that of other command ids (UUID of version 7, RFC 9562
 * §5.7): hosts tell by the time in it whether they may have forgotten the command.
 */
import { hash } from 'node:crypto';

/** `atMs`: when the attempt was begun, Unix milliseconds, from the journal. `parts` name the command. */
export function deriveCommandId(atMs: number, parts: readonly (string | number)[]): string {
  const time = Math.floor(atMs).toString(16).padStart(12, '0');
  const digest = hash('sha256', parts.join('\0'));
  const variant = '89ab'[Number.parseInt(digest.slice(3, 4), 16) & 3];
  return `${time.slice(0, 8)}-${time.slice(8)}-7${digest.slice(0, 3)}-${variant}${digest.slice(4, 7)}-${digest.slice(7, 19)}`;
}
