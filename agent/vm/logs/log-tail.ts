/** Where the end of a log begins: so many lines or bytes before it. */
import type { RollingLog } from './rolling-log.ts';

export interface Tail {
  /** Whole lines; what comes after the last line break counts as one. */
  readonly lines?: number | undefined;
  /** The most bytes, before which whole lines are left out. */
  readonly bytes?: number | undefined;
}

const BLOCK_BYTES = 64 * 1024;
const NEWLINE = 0x0a;

/** The position of its first byte; the beginning of what is kept where there is less than that. */
export async function beginOfTail(log: RollingLog, { lines, bytes }: Tail): Promise<number> {
  const { begin, end } = await log.extent();
  const least = bytes === undefined ? begin : Math.max(begin, end - bytes);
  if (lines !== undefined) return lineBefore(log, lines, least, end);
  return least === begin ? begin : nextLine(log, least, end);
}

async function lineBefore(log: RollingLog, lines: number, begin: number, end: number): Promise<number> {
  if (lines === 0) return end;
  let missing = lines;
  for (let blockEnd = end; blockEnd > begin; blockEnd = Math.max(begin, blockEnd - BLOCK_BYTES)) {
    const blockBegin = Math.max(begin, blockEnd - BLOCK_BYTES);
    const block = await readAll(log, blockBegin, blockEnd - blockBegin);
    for (let at = block.length - 1; at >= 0; at--) {
      // The break at the very end ends the last line and begins none.
      if (block[at] !== NEWLINE || blockBegin + at === end - 1) continue;
      missing -= 1;
      if (missing === 0) return blockBegin + at + 1;
    }
  }
  return begin;
}

/** The first line that begins at or after the position; the position where there is none. */
async function nextLine(log: RollingLog, position: number, end: number): Promise<number> {
  const block = await readAll(log, position - 1, Math.min(BLOCK_BYTES, end - position + 1));
  const at = block.indexOf(NEWLINE);
  return at < 0 || at === block.length - 1 ? position : position + at;
}

/** One read ends where one file does. */
async function readAll(log: RollingLog, position: number, length: number): Promise<Buffer> {
  const { bytes } = await log.read(position, length);
  if (bytes.length === 0 || bytes.length === length) return bytes;
  return Buffer.concat([bytes, await readAll(log, position + bytes.length, length - bytes.length)]);
}
