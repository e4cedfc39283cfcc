/** What the tests of the add-on share. They skip, and say why, where it is not built. */
import { readFileSync, readdirSync, readlinkSync } from 'node:fs';
import { describe } from 'vitest';
import type { NativeApi } from '../../native/index.ts';
import { loadNative } from '../../native/index.ts';

const native = loadNative();

/** A `describe` whose body gets the add-on, or is skipped with the reason in its name. */
export function describeNative(name: string, body: (api: NativeApi) => void): void {
  const suite = native.available ? describe : describe.skip;
  // SAFETY: the empty object goes to bodies of skipped suites, which collect their tests and run none.
  const api = native.available ? native.api : ({} as NativeApi);
  suite(native.available ? name : `${name} (skipped: ${native.reason})`, () => {
    body(api);
  });
}

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
