/**
 * Frees the buffers of messages that were read and passed on.
 *
 * They lie outside V8's heap, where its collector of young objects does not count them: a line at full speed hands over hundreds of
 * megabytes before the few objects around them make it run. So the young are collected by what lies outside, which takes a fraction of a
 * millisecond.
 *
 * V8 counts what lies outside as old when it asks whether the whole heap is to be collected, and it asks for little more than the heap
 * was after the last time: once that is a few megabytes, each burst that waits for a slow line makes it collect everything, ten times a
 * second and more, and each time it finds the same little heap. That costs several times what moving the bytes does. So a process that
 * moves bulk data leaves V8 room for as much again as may lie outside.
 *
 * Nor may the space of young objects be of any size. V8 doubles it up to 128 MB as objects survive, and gives it up to 2 MB in a quiet hour. In the
 * smallest a busy hub moves up to a tenth less, since what is on its way through has no time to die; beyond some more it only stays resident.
 */
import { getHeapSpaceStatistics, getHeapStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** Bytes of messages after which it is looked how much lies outside. */
const LOOK_EVERY_BYTES = 2 * 1024 * 1024;
/**
 * Bytes outside, beyond those that were left the last time, at which the young are collected. More than wait in a busy hub, or each of
 * them would be seen twice, and become old.
 */
const COLLECT_AT_BYTES = 12 * 1024 * 1024;
/** Bytes by which the heap and what lies outside may grow before V8 collects all of it. */
const ROOM_BYTES = 64 * 1024 * 1024;
/** The space of young objects as it should be. */
const YOUNG_SPACE_BYTES = 16 * 1024 * 1024;

let collectYoung: ((options: { type: 'minor' }) => void) | undefined;
let sinceBytes = 0;
/** The least that lay outside since the last collection. */
let leftBytes = Number.POSITIVE_INFINITY;
let growthPercent = 0;
let mayGrow = true;

/** To be told of each message of bulk data, read or sent. */
export function countYoungBuffer(bytes: number): void {
  sinceBytes += bytes;
  if (sinceBytes < LOOK_EVERY_BYTES) return;
  sinceBytes = 0;
  const { external_memory: outsideBytes, used_heap_size: heapBytes } = getHeapStatistics();
  leftBytes = Math.min(leftBytes, outsideBytes);
  if (outsideBytes - leftBytes < COLLECT_AT_BYTES) return;
  collectYoung ??= exposeCollector();
  collectYoung({ type: 'minor' });
  leftBytes = getHeapStatistics().external_memory;
  leaveRoom(heapBytes);
  boundYoungSpace();
}

/** V8 asks for the factor whenever it would let the space grow. */
function boundYoungSpace(): void {
  const bytes = getHeapSpaceStatistics().find(({ space_name: name }) => name === 'new_space')?.space_size ?? 0;
  const isSmall = bytes < YOUNG_SPACE_BYTES;
  if (isSmall === mayGrow) return;
  mayGrow = isSmall;
  setFlagsFromString(`--semi-space-growth-factor=${isSmall ? 2 : 1}`);
}

/** V8 takes it as a share of the heap. Not set again for each small change. */
function leaveRoom(heapBytes: number): void {
  const percent = Math.ceil((100 * ROOM_BYTES) / heapBytes);
  if (Math.abs(percent - growthPercent) <= growthPercent / 4) return;
  growthPercent = percent;
  setFlagsFromString(`--heap-growing-percent=${percent}`);
}

/** V8 has it for whoever asks; a context of its own keeps the name `gc` out of the program. */
function exposeCollector(): (options: { type: 'minor' }) => void {
  setFlagsFromString('--expose-gc');
  // SAFETY: what V8 calls so takes these options (v8 src/extensions/gc-extension.cc).
  const collect = runInNewContext('gc') as (options: { type: 'minor' }) => void;
  setFlagsFromString('--no-expose-gc');
  return collect;
}
