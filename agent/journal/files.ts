/** What the journal asks of a file system: little enough to be kept in memory, or to be made to fail, by a test or a simulated fleet. */
import { mkdir, open, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { syncDirectory } from '../vm/atomic-file.ts';

export interface JournalFile {
  /** Of what it was given, so many bytes were written: maybe not all. */
  write(bytes: Uint8Array, position: number): Promise<number>;
  truncate(bytes: number): Promise<void>;
  /** What was written is durable from here on. */
  datasync(): Promise<void>;
  close(): Promise<void>;
}

export interface JournalFiles {
  /** Names in the directory; none where there is no directory yet. */
  list(): Promise<string[]>;
  read(name: string): Promise<Buffer>;
  /** @throws an ENOENT when the file is gone. */
  readAt(name: string, position: number, bytes: number): Promise<Buffer>;
  /** Makes the file, empty whatever it held, and the directory where there is none. */
  create(name: string): Promise<JournalFile>;
  open(name: string): Promise<JournalFile>;
  remove(name: string): Promise<void>;
  /** Names that were made or removed are durably so from here on. */
  syncNames(): Promise<void>;
}

/** Files of mode 0600 in a directory of mode 0700: params of commands are nobody else's business. */
export function directoryFiles(directory: string): JournalFiles {
  const pathOf = (name: string): string => join(directory, name);
  return {
    async list() {
      try {
        return await readdir(directory);
      } catch (error) {
        if (isNotThere(error)) return [];
        throw error;
      }
    },
    read: (name) => readFile(pathOf(name)),
    async readAt(name, position, bytes) {
      await using file = await open(pathOf(name), 'r');
      const { buffer, bytesRead } = await file.read(Buffer.allocUnsafe(bytes), 0, bytes, position);
      return buffer.subarray(0, bytesRead);
    },
    async create(name) {
      const made = await mkdir(directory, { recursive: true, mode: 0o700 });
      if (made !== undefined) await syncDirectory(join(directory, '..'));
      return openFile(pathOf(name), 'w');
    },
    open: (name) => openFile(pathOf(name), 'r+'),
    remove: (name) => rm(pathOf(name), { force: true }),
    syncNames: () => syncDirectory(directory),
  };
}

async function openFile(path: string, flags: 'w' | 'r+'): Promise<JournalFile> {
  const file = await open(path, flags, 0o600);
  return {
    write: async (bytes, position) => (await file.write(bytes, 0, bytes.length, position)).bytesWritten,
    truncate: (bytes) => file.truncate(bytes),
    datasync: () => file.datasync(),
    close: () => file.close(),
  };
}

export function isNotThere(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}
