/**
 * Gives back what the start, or the loading of a part, needed and the agent does not: V8 keeps about 9 MB of dead objects until its heap
 * has grown a good deal more, which on an idle agent is never, and the C library what the compiler worked with. One full collection takes
 * some 15 ms.
 *
 * Node offers a collection to programs only by a flag of the command line; setting the flag at run time and fetching the function from
 * a fresh context comes to the same, and touches no global of this program.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { loadNative } from '../native/index.ts';

/** After the last module has been loaded, the probe of the host included. */
const DELAY_MS = 1_000;

let planned: NodeJS.Timeout | undefined;

/** In a while, once for all that ask until then; without effect where V8 does not know the flag. */
export function trimMemorySoon(): void {
  planned ??= setTimeout(trimMemory, DELAY_MS).unref();
}

function trimMemory(): void {
  planned = undefined;
  setFlagsFromString('--expose-gc');
  const collect: unknown = runInNewContext('typeof gc === "function" ? gc : undefined');
  setFlagsFromString('--no-expose-gc');
  if (typeof collect === 'function') collect({ type: 'major', execution: 'sync', flavor: 'last-resort' });
  const native = loadNative();
  if (native.available) native.api.trimHeap();
}
