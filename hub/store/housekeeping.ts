/** Keeps a log to a number of entries. Told of each new last number, it forgets the oldest, many at a time. */
import type { Log } from './store.ts';

export type Housekeeping = (last: number) => Promise<void>;

/** So many over the bound are forgotten together, as a share of it. */
const SLACK = 0.05;

export function keepTo(log: Pick<Log<unknown>, 'bounds' | 'trim'>, maxEntries: number): Housekeeping {
  const slack = Math.max(1, Math.floor(maxEntries * SLACK));
  let forgotten: number | undefined;
  return async (last) => {
    forgotten ??= (await log.bounds()).forgotten;
    if (last - forgotten <= maxEntries + slack) return;
    forgotten = last - maxEntries;
    await log.trim(forgotten);
  };
}
