/** A small file that is read and replaced as a whole; a simulated host has it elsewhere (agent/sim/shared-disk.ts). */
import { readFile } from 'node:fs/promises';
import { writeFileAtomic } from '../vm/atomic-file.ts';

export interface TextFile {
  /** Undefined where there is none yet. */
  read(): Promise<string | undefined>;
  /** Durable when it resolves. */
  write(text: string): Promise<void>;
}

export function textFileAt(path: string): TextFile {
  return {
    read: async () => {
      try {
        return await readFile(path, 'utf8');
      } catch (error) {
        if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
        throw error;
      }
    },
    write: (text) => writeFileAtomic(path, text),
  };
}
