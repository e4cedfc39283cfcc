/**
 * How much memory a guest has at this moment, kept from QEMU's events, so that to tell it costs no command.
 *
 * Two devices change it: the balloon takes from what the guest was started with (`BALLOON_CHANGE`), and virtio-mem adds to it
 * (`MEMORY_DEVICE_SIZE_CHANGE`). QEMU tells each at most once a second, the last change always. Events of a time without a QMP session
 * are lost: after one, `refresh` asks. It is asked too by who waits for a size and is not to be told of it before everybody else.
 */
import { isFairleadError } from '../../../shared/errors.ts';
import type { QmpArguments, QmpCommandName, QmpResult } from '../../qmp/commands.ts';
import type { QmpEvent } from '../../qmp/messages.ts';

export const MEMORY_EVENTS = ['BALLOON_CHANGE', 'MEMORY_DEVICE_SIZE_CHANGE'] as const;
/** QEMU's id of the one memory device that a VM may have. */
export const MEMORY_DEVICE = 'vmem0';

export interface MemoryReading {
  /** What the guest has of the memory that it was started with; undefined where there is no balloon to take any. */
  readonly ramBytes: number | undefined;
  /** What the guest has taken of the memory device; undefined where there is none. */
  readonly pluggedBytes: number | undefined;
  /** What QEMU has been told to offer of it. */
  readonly requestedBytes: number | undefined;
  /** The memory device grows and shrinks by multiples of this. */
  readonly blockBytes: number | undefined;
}

/** Gives a command, within a time that is its owner's affair. */
export type Ask = <Name extends QmpCommandName>(command: Name, args: QmpArguments<Name>) => Promise<QmpResult<Name>>;

export class MemoryGauge {
  #ramBytes: number | undefined;
  #pluggedBytes = 0;
  /** How many events of each have come. */
  readonly #heard = { ram: 0, plugged: 0 };

  /** `bootBytes` is what the guest was started with. */
  actualBytes(bootBytes: number): number {
    return (this.#ramBytes ?? bootBytes) + this.#pluggedBytes;
  }

  onEvent({ name, data }: QmpEvent): void {
    if (name === 'BALLOON_CHANGE' && typeof data['actual'] === 'number') {
      this.#ramBytes = data['actual'];
      this.#heard.ram += 1;
    }
    if (name === 'MEMORY_DEVICE_SIZE_CHANGE' && typeof data['size'] === 'number') {
      this.#pluggedBytes = data['size'];
      this.#heard.plugged += 1;
    }
  }

  /** Asks, and takes the answer for what the guest has, but where an event came meanwhile: that may be the newer. */
  async refresh(ask: Ask): Promise<MemoryReading> {
    const { ram, plugged } = this.#heard;
    const reading = await readMemory(ask);
    if (ram === this.#heard.ram) this.#ramBytes = reading.ramBytes;
    if (plugged === this.#heard.plugged) this.#pluggedBytes = reading.pluggedBytes ?? 0;
    return reading;
  }
}

/** @throws FairleadError what QMP throws. */
async function readMemory(ask: Ask): Promise<MemoryReading> {
  const [ramBytes, devices] = await Promise.all([readBalloon(ask), ask('query-memory-devices', {})]);
  const device = devices.find(({ data }) => data.id === MEMORY_DEVICE)?.data;
  return {
    ramBytes,
    pluggedBytes: device?.size,
    requestedBytes: device?.['requested-size'],
    blockBytes: device?.['block-size'],
  };
}

async function readBalloon(ask: Ask): Promise<number | undefined> {
  try {
    return (await ask('query-balloon', {})).actual;
  } catch (error) {
    // There is no balloon, or one that works with KVM alone.
    if (isFairleadError(error) && error.code === 'QMP_FAILED') return undefined;
    throw error;
  }
}
