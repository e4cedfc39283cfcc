/**
 * Gives back what was needed for a while: by the start, the loading of a part, the life of a VM. V8 keeps some 9 MB of dead objects, and
 * up to 45 MB of room for young ones, until its heap has grown a good deal more, which on a quiet agent is never; the C library keeps
 * what the compiler worked with. One full collection takes some 15 ms.
 *
 * Node offers a collection to programs only by a flag of the command line; setting the flag at run time and fetching the function from
 * a fresh context comes to the same, and touches no global of this program.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { loadNative } from '../native/index.ts';

/** After the last module has been loaded, the probe of the host included. */
const DELAY_MS = 1_000;
/** A host whose VMs come and go pays for it as seldom as this. */
const LEAST_PAUSE_MS = 10_000;

let planned: NodeJS.Timeout | undefined;
let trimmedAt = Number.NEGATIVE_INFINITY;

/** In a while, once for all that ask until then; without effect where V8 does not know the flag. */
export function trimMemorySoon(): void {
  const pauseMs = trimmedAt + LEAST_PAUSE_MS - performance.now();
  planned ??= setTimeout(trimMemory, Math.max(DELAY_MS, pauseMs)).unref();
}

/** On the spot. */
export function trimMemory(): void {
  planned = undefined;
  trimmedAt = performance.now();
  setFlagsFromString('--expose-gc');
  const collect: unknown = runInNewContext('typeof gc === "function" ? gc : undefined');
  setFlagsFromString('--no-expose-gc');
  if (typeof collect === 'function') collect({ type: 'major', execution: 'sync', flavor: 'last-resort' });
  const native = loadNative();
  if (native.available) native.api.trimHeap();
}
