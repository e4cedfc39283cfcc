/**
 * A file is either the old one or the new one, whenever the machine stops: written beside, fsynced, renamed over, and the directory
 * fsynced so that the name is durable too.
 */
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';

/** One writer a path at a time: the caller serialises. */
export async function writeFileAtomic(path: string, text: string): Promise<void> {
  const beside = `${path}.new`;
  try {
    await withHandle(await open(beside, 'w', 0o600), async (file) => {
      await file.writeFile(text);
      await file.sync();
    });
    await rename(beside, path);
  } catch (error) {
    await rm(beside, { force: true });
    throw error;
  }
  await syncDirectory(dirname(path));
}

export async function syncDirectory(path: string): Promise<void> {
  await withHandle(await open(path, 'r'), (directory) => directory.sync());
}

async function withHandle(handle: FileHandle, use: (handle: FileHandle) => Promise<void>): Promise<void> {
  try {
    await use(handle);
  } finally {
    await handle.close();
  }
}
