/**
 * The trail: QEMU's own account of its events, on its standard output, written whether or not an agent is there to listen. So an agent
 * that comes back knows what it missed, and how a process ended that is gone: a guest that shut itself down meanwhile has not crashed.
 *
 * It is a QMP monitor on QEMU's standard input and output (`-chardev stdio`). The input is asked one thing, to begin; it may then end
 * with the agent, and QEMU goes on writing. The output is the file RUN/NAME/trail.jsonl: a greeting, an answer, then one event a line.
 * rolling-log.ts may take its beginning away, so its beginning may be missing.
 */

import { type QmpEvent, readMessage } from '../qmp/messages.ts';
import { tailOf } from './logs/log-file.ts';

/** What has to be written to the process's standard input for the trail to begin. */
export const TRAIL_REQUEST = '{"execute":"qmp_capabilities"}\n';

const MAX_BYTES = 1024 * 1024;

export interface Trail {
  /** Whether it begins with the process; else something was cut off. */
  readonly isWhole: boolean;
  readonly events: readonly QmpEvent[];
}

/** Empty for a VM that left none. A line that is no event, such as one that was being written, is passed over. */
export function readTrail(path: string): Trail {
  const messages = tailOf(path, { maxBytes: MAX_BYTES })
    .split('\n')
    .flatMap((line) => messageOf(line));
  const events = messages.flatMap((message) => (message.kind === 'event' ? [message.event] : []));
  return { isWhole: messages[0]?.kind === 'greeting', events };
}

/** Why QEMU said that it shuts down; undefined when it did not. */
export function shutdownReasonOf({ events }: Trail): string | undefined {
  const last = events.findLast(({ name }) => name === 'SHUTDOWN');
  if (last === undefined) return undefined;
  const { reason } = last.data;
  return typeof reason === 'string' ? reason : 'unknown';
}

function messageOf(line: string) {
  if (!line.startsWith('{')) return [];
  try {
    return [readMessage(JSON.parse(line))];
  } catch {
    return [];
  }
}
