/** How many files this process may have open, of which every connection is one. Node raises the soft limit to the hard one when it starts. */
import { readFileSync } from 'node:fs';

/** Undefined where it is not limited, or not told (/proc of Linux). */
export function readOpenFilesLimit(): number | undefined {
  try {
    const limit = /^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1];
    return limit === undefined ? undefined : Number(limit);
  } catch {
    return undefined;
  }
}
