/**
 * Opening files in directories that QEMU may own (confinement.ts): whoever has broken out of one can put a link, a pipe or a device where
 * the agent expects a log, and the agent may be root. What is opened here is a plain file in that very place, or an error.
 */
import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { FairleadError } from '../../../shared/errors.ts';

const { O_APPEND, O_CREAT, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY } = constants;
const SAFELY = O_NOFOLLOW | O_NONBLOCK;
const OWNER_ALONE = 0o600;

const PLAIN = {
  read: SAFELY | O_RDONLY,
  change: SAFELY | O_RDWR,
  append: SAFELY | O_APPEND | O_CREAT | O_WRONLY,
  replace: SAFELY | O_CREAT | O_TRUNC | O_WRONLY,
} as const;

/** @throws what open throws (ELOOP for a link), PERMISSION_DENIED for what is no plain file */
export async function openPlain(path: string, how: keyof typeof PLAIN): Promise<FileHandle> {
  const file = await open(path, PLAIN[how], OWNER_ALONE);
  if ((await file.stat()).isFile()) return file;
  await file.close();
  throw notPlain(path);
}

/** The same, at once. The caller closes it. */
export function openPlainSync(path: string, how: keyof typeof PLAIN): number {
  const fd = openSync(path, PLAIN[how], OWNER_ALONE);
  if (fstatSync(fd).isFile()) return fd;
  closeSync(fd);
  throw notPlain(path);
}

function notPlain(path: string): FairleadError {
  return new FairleadError('PERMISSION_DENIED', `${path} is no plain file: something else was put in its place`);
}
