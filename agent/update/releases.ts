/**
 * Releases of the agent on this host, unpacked beside each other:
 *
 *     RELEASES/launcher.json          which of them runs; the launcher's
 *     RELEASES/sha256-DIGITS/…        one each, whole and durable from the moment that it has this name
 *     RELEASES/unpacking/…            one that is on its way; of no use to anybody after a crash
 */
import { createReadStream } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { FairleadError, toFairleadError } from '../../shared/errors.ts';
import { releaseHost } from '../../shared/node/release-host.ts';
import { filesOfTar, type TarFile } from '../../shared/node/tar.ts';
import { parseWith } from '../../shared/protocol/parse-with.ts';
import { RELEASE_ENTRY, RELEASE_MANIFEST, ReleaseManifest, whyNot } from '../../shared/protocol/release.ts';
import { INSTALLED, type Release, releaseDirectory } from '../launcher/record.ts';
import { syncDirectory } from '../vm/atomic-file.ts';

const LIMITS = { maxFileBytes: 64 * 1024 ** 2, maxFiles: 20_000 } as const;
const MAX_BYTES = 1024 ** 3;
const UNPACKING = 'unpacking';

export class Releases {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** Undefined where it is not unpacked here. */
  async manifestOf(release: Release): Promise<ReleaseManifest | undefined> {
    if (release === INSTALLED) return undefined;
    try {
      const text = await readFile(join(releaseDirectory(this.#directory, release), RELEASE_MANIFEST), 'utf8');
      return parseManifest(text);
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
      throw error;
    }
  }

  /**
   * Durable when it resolves. One at a time: the caller sees to that.
   * @throws FairleadError UNSUPPORTED for one that this host cannot run, PROTOCOL_ERROR for what is no release, STORAGE_FAILED
   */
  async unpack(release: Release, archive: string, signal: AbortSignal): Promise<ReleaseManifest> {
    const beside = join(this.#directory, UNPACKING);
    try {
      await rm(beside, { recursive: true, force: true });
      const manifest = await this.#unpackInto(beside, release, archive, signal);
      await stat(join(beside, RELEASE_ENTRY));
      await rename(beside, releaseDirectory(this.#directory, release));
      await syncDirectory(this.#directory);
      return manifest;
    } catch (error) {
      await rm(beside, { recursive: true, force: true }).catch(() => {});
      signal.throwIfAborted();
      throw readable(release, error);
    }
  }

  /** All that is not among these. */
  async removeBut(kept: readonly (Release | undefined)[]): Promise<void> {
    const directories = new Set(kept.flatMap((one) => (one === undefined ? [] : [releaseDirectory(this.#directory, one)])));
    for (const name of await readdir(this.#directory)) {
      const path = join(this.#directory, name);
      if (name.startsWith('sha256-') && !directories.has(path)) await rm(path, { recursive: true, force: true });
    }
  }

  async #unpackInto(directory: string, release: Release, archive: string, signal: AbortSignal): Promise<ReleaseManifest> {
    const made = new Set<string>();
    let manifest: ReleaseManifest | undefined;
    const unpack = async (chunks: AsyncIterable<Uint8Array>): Promise<void> => {
      for await (const file of filesOfTar(bounded(chunks), LIMITS)) {
        signal.throwIfAborted();
        manifest ??= fittingManifest(release, file);
        await writeDurably(directory, file, made);
      }
    };
    await pipeline(createReadStream(archive), createGunzip(), unpack, { signal });
    for (const path of [...made, directory]) await syncDirectory(path);
    if (manifest === undefined) throw new FairleadError('PROTOCOL_ERROR', 'it is empty');
    return manifest;
  }
}

async function writeDurably(directory: string, { path, content, isExecutable }: TarFile, made: Set<string>): Promise<void> {
  const target = join(directory, path);
  for (let parent = dirname(target); parent !== directory && !made.has(parent); parent = dirname(parent)) made.add(parent);
  await mkdir(dirname(target), { recursive: true, mode: 0o700 });
  await writeFile(target, content, { mode: isExecutable ? 0o700 : 0o600, flag: 'wx', flush: true });
}

/** The first file says whether the others are worth anything here. @throws FairleadError UNSUPPORTED, PROTOCOL_ERROR */
function fittingManifest(release: Release, { path, content }: TarFile): ReleaseManifest {
  if (path !== RELEASE_MANIFEST)
    throw new FairleadError('PROTOCOL_ERROR', `it begins with ${path} and not with ${RELEASE_MANIFEST}`);
  const manifest = parseManifest(Buffer.from(content).toString('utf8'));
  requireFit(release, manifest);
  return manifest;
}

/** @throws FairleadError UNSUPPORTED */
export function requireFit(release: Release, manifest: ReleaseManifest): void {
  const reason = whyNot(manifest, releaseHost());
  if (reason === undefined) return;
  throw new FairleadError('UNSUPPORTED', `release ${manifest.version} (${release}) cannot run on this host: ${reason}`);
}

function parseManifest(text: string): ReleaseManifest {
  try {
    return parseWith(ReleaseManifest, JSON.parse(text), RELEASE_MANIFEST, 'PROTOCOL_ERROR');
  } catch (error) {
    throw toFairleadError(error, 'PROTOCOL_ERROR');
  }
}

async function* bounded(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let bytes = 0;
  for await (const chunk of chunks) {
    bytes += chunk.length;
    if (bytes > MAX_BYTES) throw new FairleadError('LIMIT_EXCEEDED', `it is longer than ${MAX_BYTES} bytes when unpacked`);
    yield chunk;
  }
}

function readable(release: Release, error: unknown): FairleadError {
  const { code, message } = toFairleadError(error, 'INTERNAL');
  if (code === 'UNSUPPORTED') return toFairleadError(error);
  const system = error instanceof Error && 'code' in error ? String(error.code) : '';
  if (/^E[A-Z]+$/.test(system) && system !== 'ENOENT') {
    return new FairleadError('STORAGE_FAILED', `release ${release} could not be unpacked: ${message}`, { cause: error });
  }
  return new FairleadError('PROTOCOL_ERROR', `${release} is no release of the agent: ${message}`, { cause: error });
}
