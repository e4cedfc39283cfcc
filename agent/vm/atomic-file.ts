/**
 * A file is either the old one or the new one, whenever the machine stops: written beside, fsynced, renamed over, and the directory
 * fsynced so that the name is durable too.
 */
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';

/** One writer a path at a time: the caller serialises. */
export async function writeFileAtomic(path: string, text: string): Promise<void> {
  const written = await writeBeside(path, text, '.new');
  await written.replace();
}

export interface WrittenBeside {
  /** Its content is the file's from here on, durably. At most once, and not after `drop`. */
  replace(): Promise<void>;
  /** It was for nothing. Never rejects. */
  drop(): Promise<void>;
}

/** The half of the work that can be done ahead: the content is durable in a file of that suffix, and the file is as it was. */
export async function writeBeside(path: string, text: string, suffix: string): Promise<WrittenBeside> {
  const beside = `${path}${suffix}`;
  const drop = (): Promise<void> => rm(beside, { force: true }).catch(() => {});
  try {
    await withHandle(await open(beside, 'w', 0o600), async (file) => {
      await file.writeFile(text);
      await file.sync();
    });
  } catch (error) {
    await drop();
    throw error;
  }
  const replace = async (): Promise<void> => {
    try {
      await rename(beside, path);
    } catch (error) {
      await drop();
      throw error;
    }
    await syncDirectory(dirname(path));
  };
  return { replace, drop };
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
