/** The launcher's record on disk: read once, written in one step, durable when `write` returns. Nothing but Node is needed for it. */
import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { FIRST_RECORD, type LauncherRecord, parseRecord } from './record.ts';

export class RecordFile {
  readonly #directory: string;
  readonly #path: string;

  constructor(directory: string) {
    this.#directory = directory;
    this.#path = join(directory, 'launcher.json');
    mkdirSync(directory, { recursive: true, mode: 0o700 });
  }

  /** The first one where there is none yet. @throws Error for one that cannot be read: nobody knows then which release to run */
  read(): LauncherRecord {
    let text: string;
    try {
      text = readFileSync(this.#path, 'utf8');
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return FIRST_RECORD;
      throw error;
    }
    const record = parseRecord(text);
    if (record !== undefined) return record;
    throw new Error(`${this.#path} is damaged: remove it to run the release that is installed`);
  }

  /** @throws what the file system throws; then the record on disk is as it was */
  write(record: LauncherRecord): void {
    const beside = `${this.#path}.new`;
    writeFileSync(beside, `${JSON.stringify(record, undefined, 2)}\n`, { mode: 0o600, flush: true });
    renameSync(beside, this.#path);
    const directory = openSync(this.#directory, 'r');
    try {
      fsyncSync(directory);
    } finally {
      closeSync(directory);
    }
  }
}
