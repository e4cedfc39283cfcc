/** What QEMU's events and run states mean to the state machine (QMP reference, "RunState" and the events of each name). */
import type { JsonObject, JsonValue } from '../../shared/errors.ts';
import type { QmpEvent } from '../qmp/messages.ts';
import type { VmInput } from './machine.ts';

export const QMP_EVENTS = ['STOP', 'RESUME', 'RESET', 'SHUTDOWN', 'GUEST_PANICKED', 'BLOCK_IO_ERROR'] as const;

export interface EventInput {
  readonly input: VmInput;
  readonly data: JsonObject;
}

/** Undefined for an event that changes nothing, such as an I/O error that the guest was told of. */
export function inputOfEvent({ name, data }: QmpEvent): EventInput | undefined {
  switch (name) {
    case 'STOP':
      return { input: 'pause', data: {} };
    case 'RESUME':
      return { input: 'resume', data: {} };
    case 'RESET':
      return { input: 'reset', data: pick(data, ['guest', 'reason']) };
    case 'SHUTDOWN':
      return { input: 'stop', data: pick(data, ['guest', 'reason']) };
    case 'GUEST_PANICKED':
      return { input: 'panic', data: pick(data, ['action']) };
    case 'BLOCK_IO_ERROR': {
      const isStopped = data['action'] === 'stop';
      return isStopped
        ? { input: 'io-error', data: pick(data, ['device', 'qom-path', 'operation', 'nospace', 'reason']) }
        : undefined;
    }
    default:
      return undefined;
  }
}

/**
 * The state of a VM whose events were not heard for a while. A guest that QEMU will not continue without a reset (`internal-error`) is
 * no better off than one that panicked, and no state is ever taken for `running` but that one.
 */
export function inputOfRunState(status: string): VmInput {
  switch (status) {
    case 'running':
      return 'resume';
    case 'guest-panicked':
    case 'internal-error':
      return 'panic';
    case 'io-error':
      return 'io-error';
    case 'shutdown':
      return 'stop';
    default:
      return 'pause';
  }
}

/** The named members that are plain values: what goes into an event is small and known. */
function pick(data: Readonly<Record<string, unknown>>, names: readonly string[]): JsonObject {
  const entries: [string, JsonValue][] = [];
  for (const name of names) {
    const value = data[name];
    if (typeof value === 'string' || typeof value === 'boolean' || typeof value === 'number') entries.push([name, value]);
  }
  return Object.fromEntries(entries);
}
