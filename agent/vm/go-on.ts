/** Lets a guest go on. QEMU 10 says that a migration is completed a moment before it has given up the guest's disks, and until then refuses. */
import { setTimeout as sleep } from 'node:timers/promises';
import { isFairleadError } from '../../shared/errors.ts';

const REFUSAL = /Migration is not finalized yet/;
const AGAIN_MS = 20;
/** Of a second. */
const MOST_TRIES = 50;

/** `cont` is the command; rejects as it does. */
export async function goOn(cont: () => Promise<unknown>, signal: AbortSignal): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      await cont();
      return;
    } catch (error) {
      if (tries === MOST_TRIES || !isFairleadError(error) || !REFUSAL.test(error.message)) throw error;
      await sleep(AGAIN_MS, undefined, { signal });
    }
  }
}
