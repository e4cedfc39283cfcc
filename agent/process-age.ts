/** How long a process has run, by clocks that nobody sets: start times count from the boot, and this process knows its own age. */
import { identityOf, type ProcessIdentity } from './process-identity.ts';

/** Unit of a start time: USER_HZ is 100 on every Linux. */
const TICK_MS = 10;
let own: ProcessIdentity | undefined;

/** In milliseconds; of a process of this boot, which need not be there any more. */
export function ageOf({ startTime }: Pick<ProcessIdentity, 'startTime'>): number {
  own ??= identityOf(process.pid);
  const earlierTicks = own === undefined ? 0 : Number(own.startTime) - Number(startTime);
  return performance.now() + earlierTicks * TICK_MS;
}
