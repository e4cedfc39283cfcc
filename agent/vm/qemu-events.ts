/**
 * What QEMU's events and run states mean (QMP reference, "RunState" and the events of each name): an input of the state machine, a
 * notice that is told and changes no state, or nothing.
 */
import type { JsonObject } from '../../shared/errors.ts';
import type { VmEventData } from '../../shared/protocol/vm-events.ts';
import type { QmpEvent } from '../qmp/messages.ts';
import type { VmInput } from './machine.ts';

export const QMP_EVENTS = [
  'STOP',
  'RESUME',
  'RESET',
  'SHUTDOWN',
  'GUEST_PANICKED',
  'BLOCK_IO_ERROR',
  'WATCHDOG',
  'BALLOON_CHANGE',
  'DEVICE_DELETED',
  'MEMORY_DEVICE_SIZE_CHANGE',
  'MIGRATION',
] as const;

type Notice =
  | 'vm.io-error'
  | 'vm.watchdog-fired'
  | 'vm.balloon-changed'
  | 'vm.device-removed'
  | 'vm.memory-resized'
  | 'vm.migration-changed';

type NoticeOf<Type extends Notice> = { readonly type: Type; readonly data: VmEventData<Type> };

export type QemuNotice = { [Type in Notice]: NoticeOf<Type> }[Notice];

export type QemuWord =
  | { readonly kind: 'input'; readonly input: VmInput; readonly data: JsonObject }
  | { readonly kind: 'notice'; readonly notice: QemuNotice }
  /** One more reset of those that the firmware makes of one: the guest starts once more, and nobody needs to be told. */
  | { readonly kind: 'reset-echo' };

/** A q35's firmware answers a reset with one or two of its own, tens of milliseconds later and more on a busy host. */
const RESET_ECHO_MS = 1_000;
/** A guest that goes on reading from a broken disk makes thousands of errors a second. */
const REPORTED_ERROR_INTERVAL_MS = 1_000;

/** Reads the events of one process, in their order; time is that of their time stamps. */
export class QemuEventReader {
  #resetAtMs = Number.NEGATIVE_INFINITY;
  #errorToldAtMs = Number.NEGATIVE_INFINITY;

  /** Undefined for an event that means nothing here. */
  read(event: QmpEvent): QemuWord | undefined {
    const { name, data } = event;
    switch (name) {
      case 'STOP':
        return input('pause', {});
      case 'RESUME':
        return input('resume', {});
      case 'RESET':
        return this.#reset(event);
      case 'SHUTDOWN':
        return input('stop', { ...flag('guest', data['guest']), ...text('reason', data['reason']) });
      case 'GUEST_PANICKED':
        return input('panic', text('action', data['action']));
      case 'BLOCK_IO_ERROR':
        return this.#ioError(event);
      case 'WATCHDOG':
        return notice('vm.watchdog-fired', text('action', data['action']));
      case 'BALLOON_CHANGE':
        return isCount(data['actual']) ? notice('vm.balloon-changed', { actualBytes: data['actual'] }) : undefined;
      case 'MEMORY_DEVICE_SIZE_CHANGE':
        return isCount(data['size'])
          ? notice('vm.memory-resized', { ...text('device', data['id']), bytes: data['size'] })
          : undefined;
      case 'DEVICE_DELETED':
        // Without a name it is a part of a device, such as its virtio backend.
        return typeof data['device'] === 'string' ? notice('vm.device-removed', { device: data['device'] }) : undefined;
      case 'MIGRATION':
        return typeof data['status'] === 'string' ? notice('vm.migration-changed', { status: data['status'] }) : undefined;
      default:
        return undefined;
    }
  }

  #reset(event: QmpEvent): QemuWord {
    const sinceMs = millisecondsOf(event) - this.#resetAtMs;
    this.#resetAtMs = millisecondsOf(event);
    const isEcho = event.data['reason'] === 'guest-reset' && sinceMs >= 0 && sinceMs < RESET_ECHO_MS;
    return isEcho
      ? { kind: 'reset-echo' }
      : input('reset', { ...flag('guest', event.data['guest']), ...text('reason', event.data['reason']) });
  }

  #ioError(event: QmpEvent): QemuWord | undefined {
    const { action, device, operation, nospace, reason, 'node-name': node } = event.data;
    const data = {
      ...text('action', action),
      ...text('device', device),
      ...text('node', node),
      ...text('operation', operation),
      ...flag('isOutOfSpace', nospace),
      ...text('reason', reason),
    };
    if (action === 'stop') return input('io-error', data);
    const sinceMs = millisecondsOf(event) - this.#errorToldAtMs;
    if (sinceMs >= 0 && sinceMs < REPORTED_ERROR_INTERVAL_MS) return undefined;
    this.#errorToldAtMs = millisecondsOf(event);
    return notice('vm.io-error', data);
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

function input(name: VmInput, data: JsonObject): QemuWord {
  return { kind: 'input', input: name, data };
}

function notice<Type extends Notice>(type: Type, data: VmEventData<Type>): QemuWord {
  // SAFETY: the parameters tie the data to the type; TypeScript does not see that their pair is one of the union.
  return { kind: 'notice', notice: { type, data } as QemuNotice };
}

/** When it happened, by the host's clock, to the microsecond. */
export function millisecondsOf({ timestamp }: QmpEvent): number {
  return timestamp.seconds * 1000 + timestamp.microseconds / 1000;
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

/** A member under our name, where QEMU gives it as text: what goes into an event is small and known. */
function text<Name extends string>(name: Name, value: unknown): { [N in Name]?: string } {
  // SAFETY: the object has no member but this one, and the type says that it may be absent.
  return (typeof value === 'string' ? { [name]: value } : {}) as { [N in Name]?: string };
}

function flag<Name extends string>(name: Name, value: unknown): { [N in Name]?: boolean } {
  // SAFETY: as above.
  return (typeof value === 'boolean' ? { [name]: value } : {}) as { [N in Name]?: boolean };
}
