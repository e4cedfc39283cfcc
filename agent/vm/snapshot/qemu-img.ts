/**
 * `qemu-img rebase`, for images that no QEMU has open: what the image would lose by standing on something else is copied into it first, and
 * only then is the name of what it stands on changed. Cut short at any point it stands on what it stood on, and holds what it held.
 */
import { spawn } from 'node:child_process';
import { FairleadError } from '../../../shared/errors.ts';
import type { Image } from './image-chain.ts';
import type { FileOwner } from './ram-file.ts';

export interface RebaseOptions {
  /** Whom QEMU runs as, where not as the agent: what an image names is opened as that user. */
  readonly owner: FileOwner | undefined;
  readonly signal: AbortSignal;
  /** From 0 to 1. */
  readonly onProgress: (part: number) => void;
}

const PROGRAM = 'qemu-img';
const MAX_SAID = 4096;

/**
 * Of a qcow2 image; onto nothing where there is no `onto`.
 * @throws FairleadError UNSUPPORTED without qemu-img, CONFLICT while somebody has the image open, STORAGE_FAILED, or the signal's reason.
 */
export async function rebaseImage(
  path: string,
  onto: Image | undefined,
  { owner, signal, onProgress }: RebaseOptions,
): Promise<void> {
  signal.throwIfAborted();
  const below = onto === undefined ? ['-b', ''] : ['-F', onto.format, '-b', onto.path];
  const child = spawn(PROGRAM, ['rebase', '-p', '-f', 'qcow2', ...below, path], {
    stdio: ['ignore', 'pipe', 'pipe'],
    cwd: '/',
    env: { PATH: process.env['PATH'], LC_ALL: 'C' },
    ...(owner === undefined ? {} : { uid: owner.uid, gid: owner.gid }),
  });
  const kill = (): void => void child.kill();
  signal.addEventListener('abort', kill, { once: true });
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    const last = [...text.matchAll(/\((\d+(?:\.\d+)?)\/100%\)/g)].at(-1)?.[1];
    if (last !== undefined) onProgress(Number(last) / 100);
  });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(-MAX_SAID);
  });
  const { promise, resolve, reject } = Promise.withResolvers<number | null>();
  child.once('error', reject);
  child.once('close', resolve);
  try {
    const code = await promise.catch((error: unknown) => {
      throw new FairleadError('UNSUPPORTED', `${PROGRAM} cannot be run on this host: install it, or start the VM and repeat`, {
        cause: error,
      });
    });
    signal.throwIfAborted();
    if (code !== 0) throw failed(path, said.trim() || `it ended with ${code}`);
  } finally {
    signal.removeEventListener('abort', kill);
  }
}

function failed(path: string, said: string): FairleadError {
  const why = said.replaceAll('\n', '; ');
  if (/lock/.test(said)) return new FairleadError('CONFLICT', `${path} is in use: ${why}`, { details: { path } });
  return new FairleadError('STORAGE_FAILED', `${path} stands on what it stood on: ${why}`, { details: { path } });
}
