/**
 * The named snapshots of a host, one directory each (manifest.ts says what is in it).
 *
 *     begin ──▶ draft, with what has to be undone if nobody comes back to it (intent.ts) ── keep ──▶ there
 *                 └── not kept, or the agent died: removed, at the latest when the next agent opens the catalogue
 *     there ── remove: its manifest first, so that what is left of it after a crash counts as a draft
 *
 * What stands on a snapshot is not counted anywhere: it is found by looking at what the images and the processes that there are name.
 */
import { lstat, mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { FairleadError, toFairleadError } from '../../../shared/errors.ts';
import { Name } from '../../../shared/protocol/common.ts';
import { syncDirectory } from '../atomic-file.ts';
import { openPassage } from '../confinement/passage.ts';
import {
  isManifestMissing,
  MANIFEST,
  type Manifest,
  noSnapshot,
  readManifest,
  requirePrivate,
  writeManifest,
} from './manifest.ts';
import type { FileOwner } from './ram-file.ts';

export interface CatalogueOptions {
  readonly directory: string;
  /** Whom QEMU runs as, where not as the agent: what is in the directories is opened by it. */
  readonly owner: FileOwner | undefined;
}

/** A snapshot that is being made. Disposing removes it unless it was kept. */
export interface Draft extends AsyncDisposable {
  readonly name: string;
  readonly directory: string;
  keep(manifest: Manifest): Promise<void>;
}

export interface BrokenSnapshot {
  readonly name: string;
  readonly reason: string;
}

export class SnapshotCatalogue {
  readonly #directory: string;
  readonly #owner: FileOwner | undefined;
  /** Names that are being made. */
  readonly #drafts = new Set<string>();
  /** Names that something is being made from, and how many. */
  readonly #held = new Map<string, number>();
  /** Names that are being removed, or looked at for that. Each settles when it is gone or stays, and never rejects. */
  readonly #removals = new Map<string, Promise<void>>();

  constructor({ directory, owner }: CatalogueOptions) {
    this.#directory = directory;
    this.#owner = owner;
  }

  directoryOf(name: string): string {
    return join(this.#directory, name);
  }

  /** @throws FairleadError PERMISSION_DENIED for a directory that others can look into or change. */
  async open(): Promise<void> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    await requirePrivate(this.#directory, 'the directory of snapshots');
    if (this.#owner !== undefined) await openPassage(this.#directory, this.#owner);
  }

  /** What an earlier agent did not finish. */
  async unfinished(): Promise<string[]> {
    const names = (await this.#names()).filter((name) => !this.#drafts.has(name));
    const missing = await Promise.all(names.map((name) => isManifestMissing(this.directoryOf(name))));
    return names.filter((_, index) => missing[index]);
  }

  /** @throws FairleadError CONFLICT for a name that is taken. */
  async begin(name: string): Promise<Draft> {
    await this.open();
    const directory = this.directoryOf(name);
    let isThere: boolean;
    do {
      await this.#removals.get(name);
      isThere = (await lstat(directory).catch(() => undefined)) !== undefined;
    } while (this.#removals.has(name));
    const isTaken = isThere || this.#drafts.has(name);
    if (isTaken) throw new FairleadError('CONFLICT', `this host has a snapshot ${name} already`, { details: { snapshot: name } });
    this.#drafts.add(name);
    try {
      await mkdir(directory, { mode: 0o700 });
      if (this.#owner !== undefined) await openPassage(directory, this.#owner);
    } catch (error) {
      this.#drafts.delete(name);
      throw toFairleadError(error, 'STORAGE_FAILED');
    }
    let isKept = false;
    return {
      name,
      directory,
      keep: async (manifest) => {
        await writeManifest(directory, manifest);
        await syncDirectory(this.#directory);
        isKept = true;
      },
      [Symbol.asyncDispose]: async () => {
        if (!isKept) await rm(directory, { recursive: true, force: true });
        this.#drafts.delete(name);
      },
    };
  }

  /** @throws FairleadError NOT_FOUND, PERMISSION_DENIED, STORAGE_FAILED. */
  async read(name: string): Promise<Manifest> {
    await requirePrivate(this.#directory, 'the directory of snapshots').catch((error: unknown) => {
      throw toFairleadError(error).code === 'NOT_FOUND' ? noSnapshot(name) : error;
    });
    return readManifest(this.directoryOf(name), name);
  }

  async list(): Promise<{ manifests: Manifest[]; broken: BrokenSnapshot[] }> {
    const manifests: Manifest[] = [];
    const broken: BrokenSnapshot[] = [];
    for (const name of await this.#names()) {
      if (this.#drafts.has(name)) continue;
      try {
        manifests.push(await this.read(name));
      } catch (error) {
        const { code, message } = toFairleadError(error);
        if (code !== 'NOT_FOUND') broken.push({ name, reason: message });
      }
    }
    return { manifests, broken };
  }

  /** It stays for as long as this is not disposed. One that is being removed is waited for, so it is to be read after this and not before. */
  async hold(name: string): Promise<Disposable> {
    while (this.#removals.has(name)) await this.#removals.get(name);
    this.#held.set(name, (this.#held.get(name) ?? 0) + 1);
    return {
      [Symbol.dispose]: () => {
        const left = (this.#held.get(name) ?? 1) - 1;
        if (left === 0) this.#held.delete(name);
        else this.#held.set(name, left);
      },
    };
  }

  /** Nothing begins to be made from it meanwhile: what is found to stand on it is all that does. @throws FairleadError CONFLICT */
  async whileUnheld<T>(name: string, run: () => Promise<T>): Promise<T> {
    while (this.#removals.has(name)) await this.#removals.get(name);
    if (this.#held.has(name) || this.#drafts.has(name)) {
      throw new FairleadError('CONFLICT', `snapshot ${name} cannot be removed: something is being made from it, or it is`);
    }
    const over = Promise.withResolvers<void>();
    this.#removals.set(name, over.promise);
    try {
      return await run();
    } finally {
      this.#removals.delete(name);
      over.resolve();
    }
  }

  /** False where there is none. Whoever calls has seen to it that nothing stands on it. */
  async remove(name: string): Promise<boolean> {
    const directory = this.directoryOf(name);
    if ((await lstat(directory).catch(() => undefined)) === undefined) return false;
    await rm(join(directory, MANIFEST), { force: true });
    await rm(directory, { recursive: true, force: true });
    return true;
  }

  async #names(): Promise<string[]> {
    const entries = await readdir(this.#directory, { withFileTypes: true }).catch((error: unknown) => {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return [];
      throw toFairleadError(error, 'STORAGE_FAILED');
    });
    return entries.flatMap((entry) => (entry.isDirectory() && v.is(Name, entry.name) ? [entry.name] : [])).sort();
  }
}
