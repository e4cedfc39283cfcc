/**
 * Specs that VMs had before they were given others, where those name images: whoever changed a VM may want to take it back, and a rollout does
 * so long after its end. What an earlier spec names is in use, the layer that the VM wrote onto a disk above all.
 *
 *     STATE/images/earlier/VM.json      the newest first; gone with its VM
 */
import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { parseWith } from '../../shared/protocol/parse-with.ts';
import type { VmSpec } from '../../shared/protocol/vm-spec.ts';
import { writeFileAtomic } from '../vm/atomic-file.ts';

/** Of one VM. A rollout goes back to what was before its own change, and only where none came after it. */
const MAX_KEPT = 8;
const SUFFIX = '.json';

/** What a newer agent has written stays as it is. */
const Kept = v.array(v.unknown());

export class EarlierSpecs {
  readonly #directory: string;
  #writing: Promise<unknown> = Promise.resolve();

  constructor(stateDir: string) {
    this.#directory = join(stateDir, 'images', 'earlier');
  }

  /** Where they are, for whoever looks for uses of images. */
  get directory(): string {
    return this.#directory;
  }

  /** Durable when it resolves. One that is kept already only becomes the newest. */
  keep(spec: VmSpec): Promise<void> {
    return this.#inTurn(async () => {
      await mkdir(this.#directory, { recursive: true, mode: 0o700 });
      const path = join(this.#directory, `${spec.name}${SUFFIX}`);
      const text = JSON.stringify(spec);
      const others = (await readKept(path)).filter((other) => JSON.stringify(other) !== text);
      await writeFileAtomic(path, JSON.stringify([spec, ...others].slice(0, MAX_KEPT)));
    });
  }

  /** Forgets those of VMs that are gone. */
  forget(isThere: (vm: string) => boolean): Promise<void> {
    return this.#inTurn(async () => {
      for (const name of await readdir(this.#directory).catch(() => [])) {
        if (name.endsWith(SUFFIX) && !isThere(name.slice(0, -SUFFIX.length)))
          await rm(join(this.#directory, name), { force: true });
      }
    });
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#writing.then(work);
    this.#writing = done.catch(() => {});
    return done;
  }
}

async function readKept(path: string): Promise<unknown[]> {
  try {
    return parseWith(Kept, JSON.parse(await readFile(path, 'utf8')), path, 'STORAGE_FAILED');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return [];
    throw error;
  }
}
