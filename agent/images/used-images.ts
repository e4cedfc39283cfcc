/**
 * Which images of this host are in use, found out by looking at everything that could name one: the specs of VMs, the manifests of
 * snapshots, what the host is to keep running, and the files that qcow2 images name in turn. Whatever mentions a digest uses it: one that is
 * kept for nothing costs room, one that is missing costs a VM.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { digestsIn } from '../../shared/protocol/image-ref.ts';
import type { Vms } from '../vm/api.ts';
import { filesOfQcow2 } from '../vm/qcow2-files.ts';

export interface ImageUses {
  readonly digests: ReadonlySet<string>;
  /** Whether anything names the file. */
  names(path: string): boolean;
}

export interface UsedImagesOptions {
  readonly vms: Pick<Vms, 'list' | 'broken'>;
  /** These files, and all below these directories, are read: records of snapshots and of what is wanted; and images, whose headers name others. */
  readonly directories: readonly string[];
  /** Of what VMs write onto images: a file in it that anything names uses the image below it. */
  readonly overlays: string;
}

/** Records are a few KiB; anything that is longer is no record. */
const MAX_RECORD_BYTES = 1024 * 1024;
const MAX_DEPTH = 16;

/** @throws what the file system throws, but for files that go meanwhile: then nothing may be removed */
export async function usedImages({ vms, directories, overlays }: UsedImagesOptions): Promise<ImageUses> {
  const infos = vms.list();
  const texts = infos.map((info) => JSON.stringify(info));
  const images = infos.flatMap(({ spec }) =>
    spec.disks.flatMap(({ path, format }) => (format === 'qcow2' && path !== undefined ? [path] : [])),
  );
  for (const directory of directories) {
    for (const path of await filesBelow(directory)) {
      if (path.endsWith('.json')) texts.push(await readRecord(path));
      else images.push(path);
    }
  }
  for (const image of images) texts.push(...(await chainBelow(image)));
  const all = texts.join('\n');
  const names = (path: string): boolean => all.includes(path) || all.includes(inJson(path));
  const below: string[] = [];
  for (const overlay of await filesBelow(overlays)) if (names(overlay)) below.push(...(await chainBelow(overlay)));
  return { digests: new Set(digestsIn([all, ...below].join('\n'))), names };
}

/** As it stands in a record. */
function inJson(path: string): string {
  return JSON.stringify(path).slice(1, -1);
}

async function filesBelow(directory: string): Promise<string[]> {
  try {
    const entries = await readdir(directory, { recursive: true, withFileTypes: true });
    return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  } catch (error) {
    if (isMissing(error)) return [];
    // One file alone.
    if (error instanceof Error && 'code' in error && error.code === 'ENOTDIR') return [directory];
    throw error;
  }
}

async function readRecord(path: string): Promise<string> {
  try {
    return (await readFile(path, 'utf8')).slice(0, MAX_RECORD_BYTES);
  } catch (error) {
    if (isMissing(error)) return '';
    throw error;
  }
}

/** Names of the files that a qcow2 image makes QEMU open; none for anything else. */
async function chainBelow(image: string): Promise<string[]> {
  const names: string[] = [];
  let next: string | undefined = image;
  for (let depth = 0; next !== undefined && depth < MAX_DEPTH; depth++) {
    const files: Awaited<ReturnType<typeof filesOfQcow2>> = await filesOfQcow2(next);
    names.push(...[files?.backing?.path, files?.data].filter((name) => name !== undefined));
    next = files?.backing?.format === 'qcow2' ? files.backing.path : undefined;
  }
  return names;
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}
