/**
 * Putting parts into a running QEMU, each with its way back:
 *
 *     object-add     object-del
 *     blockdev-add   blockdev-del
 *     netdev_add     netdev_del
 *     chardev-add    chardev-remove
 *
 * A part is described as on the command line, whose JSON these commands share. The device itself (`device_add`) comes last and has no way
 * back but the guest's consent, so nothing that can fail comes after it.
 */
import * as v from 'valibot';
import { FairleadError, isFairleadError, toFairleadError } from '../../../shared/errors.ts';
import { QMP_COMMANDS } from '../../qmp/commands.ts';
import type { CommandedVm, CommandLimits } from '../live-vm.ts';

export type Description = Readonly<Record<string, unknown>>;

export interface Part {
  readonly command: 'object-add' | 'blockdev-add' | 'netdev_add' | 'chardev-add';
  readonly description: Description;
}

/** For each step back, when the caller's own time may be over. A QEMU that does not answer ends it at the first. */
const UNDO_MS = 2_000;

export type Undo = (limits: CommandLimits) => PromiseLike<unknown>;

/** What was done, so that it can be taken back, the last first. */
export class UndoList {
  readonly #vm: CommandedVm;
  readonly #steps: Undo[] = [];

  constructor(vm: CommandedVm) {
    this.#vm = vm;
  }

  push(step: Undo): void {
    this.#steps.push(step);
  }

  /**
   * Runs what may have to be taken back.
   * @throws FairleadError what it throws. Where something of it could not be taken back the error says so, and the next operation on the
   * devices of the VM takes it away (reconcile.ts).
   */
  async guard(run: () => Promise<void>): Promise<void> {
    try {
      await run();
    } catch (thrown) {
      const error = toFairleadError(thrown);
      try {
        for (const step of this.#steps.toReversed()) await step({ signal: this.#vm.signal, remainingMs: UNDO_MS });
      } catch (second) {
        const message = `${error.message}; what had been done of it could not be taken back: ${toFairleadError(second).message}`;
        throw new FairleadError(error.code, message, { details: error.details, cause: error });
      }
      throw error;
    }
  }
}

export async function addPart(
  vm: CommandedVm,
  { command, description }: Part,
  limits: CommandLimits,
  undo: UndoList,
): Promise<void> {
  switch (command) {
    case 'object-add': {
      const object = v.parse(QMP_COMMANDS[command].args, description);
      await vm.execute(command, object, limits);
      return undo.push((late) => vm.execute('object-del', { id: object.id }, late));
    }
    case 'blockdev-add': {
      const node = v.parse(QMP_COMMANDS[command].args, description);
      await vm.execute(command, node, limits);
      return undo.push((late) => vm.execute('blockdev-del', { 'node-name': node['node-name'] }, late));
    }
    case 'netdev_add': {
      const netdev = v.parse(QMP_COMMANDS[command].args, description);
      await vm.execute(command, netdev, limits);
      return undo.push((late) => vm.execute('netdev_del', { id: netdev.id }, late));
    }
    case 'chardev-add': {
      const chardev = v.parse(QMP_COMMANDS[command].args, description);
      await vm.execute(command, chardev, limits);
      return undo.push((late) => vm.execute('chardev-remove', { id: chardev.id }, late));
    }
  }
}

export async function addDevice(vm: CommandedVm, description: Description, limits: CommandLimits): Promise<void> {
  await vm.execute('device_add', v.parse(QMP_COMMANDS.device_add.args, description), limits);
}

/** QEMU's refusal, told of what was asked for; any other error as it is. `what` begins the message, as in "disk data of VM web". */
export function refusalOf(thrown: unknown, what: string): unknown {
  if (!isFairleadError(thrown) || thrown.code !== 'QMP_FAILED') return thrown;
  const { details } = thrown;
  const isInUse = /Failed to get .* lock/.test(thrown.message);
  const message = isInUse
    ? `${what}: a VM or another program has the image open: let it go there, or have it read-only in both`
    : `${what}: QEMU refused it`;
  return new FairleadError(isInUse ? 'CONFLICT' : 'QMP_FAILED', `${message} (${thrown.message})`, { details, cause: thrown });
}
