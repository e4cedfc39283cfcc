/** A guest with something to lose (guest-work.ts), in a test. */
import { expect } from 'vitest';
import type { VmManager } from '../../agent/vm/manager.ts';
import { LOOK_AT_WORK, seenOf, WHOLE_BLOB, workCommand } from './guest-work.ts';
import { inGuest } from './linux-vm.ts';

export const FILE_RAM = { bytes: '256MiB', backing: 'file' } as const;

export interface Work {
  /** Waits for the guest's next count. Fails when the work was not gone on with, from where it was. `now` is the agent's manager by then. */
  goesOn(now?: VmManager): Promise<void>;
}

export async function beginWork(manager: VmManager, vm: string): Promise<Work> {
  await inGuest(manager, vm, workCommand({ blobMebibytes: 8 }));
  let last = 0;
  return {
    async goesOn(now = manager) {
      const { count, held, blob } = seenOf(await inGuest(now, vm, LOOK_AT_WORK));
      expect(blob).toBe(WHOLE_BLOB);
      expect(count).toBeGreaterThan(last);
      expect(held).toBe(count);
      last = count;
    },
  };
}
