/**
 * Taking away a block node whose device is gone. QEMU tells of a device's end when it has left the bus; what is inside it (the virtio
 * backend that holds the drive) goes a moment later, once no thread reads its memory map any more, and nothing tells of that.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { isFairleadError } from '../../../shared/errors.ts';
import type { CommandLimits, LiveVm } from '../live-vm.ts';

const ATTEMPTS = 40;
const PAUSE_MS = 50;

/** @throws FairleadError QMP_FAILED when the node is still in use after 2 s */
export async function releaseNode(vm: LiveVm, name: string, limits: CommandLimits): Promise<void> {
  for (let left = ATTEMPTS; ; left--) {
    try {
      await vm.execute('blockdev-del', { 'node-name': name }, limits);
      return;
    } catch (error) {
      // QEMU has one class for all its refusals, and this is the only one that a node that is there can meet.
      if (left === 0 || !isFairleadError(error) || error.code !== 'QMP_FAILED') throw error;
      await sleep(PAUSE_MS, undefined, { signal: limits.signal });
    }
  }
}
