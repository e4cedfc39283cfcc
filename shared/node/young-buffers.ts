/**
 * Frees the buffers of messages that were read and passed on.
 *
 * They lie outside V8's heap, where its collector of young objects does not count them: a line at full speed hands over hundreds of
 * megabytes before the few objects around them make it run. V8 then sees its limit for outside memory and collects the whole heap, over
 * and over, which costs more than moving the bytes. So the young are collected by their bytes, which takes a fraction of a millisecond.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** Well below V8's limit of 64 MiB, since a byte read is held up to three times: as it came, as a message, as it goes out. */
const COLLECT_EVERY_BYTES = 4 * 1024 * 1024;

let collectYoung: ((options: { type: 'minor' }) => void) | undefined;
let sinceBytes = 0;

/** To be told of each message of bulk data, read or sent. */
export function countYoungBuffer(bytes: number): void {
  sinceBytes += bytes;
  if (sinceBytes < COLLECT_EVERY_BYTES) return;
  sinceBytes = 0;
  collectYoung ??= exposeCollector();
  collectYoung({ type: 'minor' });
}

/** V8 has it for whoever asks; a context of its own keeps the name `gc` out of the program. */
function exposeCollector(): (options: { type: 'minor' }) => void {
  setFlagsFromString('--expose-gc');
  // SAFETY: what V8 calls so takes these options (v8 src/extensions/gc-extension.cc).
  const collect = runInNewContext('gc') as (options: { type: 'minor' }) => void;
  setFlagsFromString('--no-expose-gc');
  return collect;
}
