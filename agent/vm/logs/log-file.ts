/** The last lines of a log, for errors and records. */
import { closeSync, fstatSync, readSync } from 'node:fs';
import { openPlainSync } from './plain-file.ts';

export const TAIL_BYTES = 4096;

/** Size of a file now; 0 for one that does not exist. What is written later begins there. */
export function sizeOf(path: string): number {
  return withFile(path, 0, (fd) => fstatSync(fd).size);
}

/**
 * At most the last `maxBytes` of what stands in the file after `from` (from its beginning where it is shorter than that: it was
 * rolled meanwhile, rolling-log.ts), cut to whole lines where it was too long. Empty for a file that
 * is not there. Bytes that are no UTF-8 show as U+FFFD.
 */
export function tailOf(path: string, { from = 0, maxBytes = TAIL_BYTES }: { from?: number; maxBytes?: number } = {}): string {
  return withFile(path, '', (fd) => {
    const { size } = fstatSync(fd);
    const start = from > size ? 0 : from;
    const begin = Math.max(start, size - maxBytes);
    if (begin >= size) return '';
    const buffer = Buffer.alloc(size - begin);
    const read = readSync(fd, buffer, 0, buffer.length, begin);
    const text = buffer.toString('utf8', 0, read);
    return begin > start ? text.slice(text.indexOf('\n') + 1) : text;
  });
}

/** The last line that says something, for a message of one line. */
export function lastLine(text: string): string {
  return (
    text
      .trimEnd()
      .split(/[\r\n]+/)
      .at(-1)
      ?.trim() ?? ''
  );
}

function withFile<T>(path: string, otherwise: T, use: (fd: number) => T): T {
  let fd: number;
  try {
    fd = openPlainSync(path, 'read');
  } catch {
    return otherwise;
  }
  try {
    return use(fd);
  } finally {
    closeSync(fd);
  }
}
