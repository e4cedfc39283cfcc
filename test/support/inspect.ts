/** What a test asks about its own process, and about what a call throws. Needs no test runner: programs in VMs use it too. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** The descriptors of this process: number and what it refers to, less the one that reading them takes. */
export function openFds(): Map<number, string> {
  const fds = new Map<number, string>();
  for (const name of readdirSync('/proc/self/fd')) {
    try {
      fds.set(Number(name), readlinkSync(`/proc/self/fd/${name}`));
    } catch {
      // The directory's own descriptor, closed since.
    }
  }
  return fds;
}

/** How many threads of this process carry the add-on's name. */
export function epollThreads(): number {
  const names = readdirSync('/proc/self/task').map((tid) => {
    try {
      return readFileSync(`/proc/self/task/${tid}/comm`, 'utf8').trim();
    } catch {
      return ''; // It ended meanwhile.
    }
  });
  return names.filter((name) => name === 'fairlead-epoll').length;
}

/** The error that `action` throws, with its code; fails where it throws none. */
export function thrown(action: () => unknown): NodeJS.ErrnoException {
  try {
    action();
  } catch (error) {
    if (error instanceof Error) return error;
  }
  throw new Error('nothing was thrown');
}
