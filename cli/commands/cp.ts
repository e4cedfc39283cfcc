/**
 * `fairlead cp SRC DST`: one file into a guest or out of it, by its guest agent; nothing else is needed there. It arrives whole and checked by
 * its SHA-256, in place of what was there, or nothing changes. `-` is standard input or output.
 */
import { once } from 'node:events';
import { createReadStream } from 'node:fs';
import { chmod, open, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { type Command, InvalidArgumentError } from 'commander';
import { FairleadError } from '../../shared/errors.ts';
import { type App, type Session, withHub } from '../app.ts';
import { type Place, parsePlace, withName } from '../copy-place.ts';
import { pipedInput, untilInterrupted } from '../piped-input.ts';
import { Progress, sizeText } from '../progress.ts';

interface CopyOptions {
  readonly host?: string;
  readonly mode?: number;
}

interface Copied {
  readonly bytes: number;
  readonly to: string;
}

const PERMISSIONS = 0o7777;

export function registerCp(program: Command, app: App): void {
  program
    .command('cp')
    .description('copy a file into a guest or out of it, by its guest agent')
    .argument('<from>', 'a file here, VM:/PATH, or - for standard input')
    .argument('<to>', 'VM:/PATH, a file here, or - for standard output; a directory ends with /')
    .option('--host <host>', 'the host that the VM is on')
    .option('--mode <octal>', 'permissions of the copy, such as 0755; those of the source by default', parseMode)
    .action(async (from: string, to: string, options: CopyOptions, command: Command) => {
      const [source, target] = [parsePlace(from), parsePlace(to)];
      if ((source.kind === 'guest') === (target.kind === 'guest')) {
        throw new FairleadError(
          'INVALID_PARAMS',
          'one of the two has to be in a guest (VM:/PATH), and the other on this machine',
        );
      }
      await withHub(app, command, async (session) => {
        const { bytes, to: place } = await copy(app, session, { source, target, options });
        if (target.kind !== 'standard') session.output.say(`${sizeText(bytes)} copied to ${place}`);
      });
    });
}

function copy(
  app: App,
  session: Session,
  { source, target, options }: { readonly source: Place; readonly target: Place; readonly options: CopyOptions },
): Promise<Copied> {
  if (source.kind === 'guest') return out(app, session, source, target, options);
  if (target.kind === 'guest') return into(app, session, source, target, options);
  throw new FairleadError('INTERNAL', 'neither of the two is in a guest');
}

async function into(
  app: App,
  { hub, options: { timeout } }: Session,
  source: Place,
  target: Place & { readonly kind: 'guest' },
  { host, mode }: CopyOptions,
): Promise<Copied> {
  const { vm } = target;
  const path = withName(target.path, source);
  const local = source.kind === 'local' ? await fileAt(source.path) : undefined;
  const chunks: AsyncIterable<Uint8Array> =
    local === undefined ? pipedInput(app) : untilInterrupted(createReadStream(local.path), app.signal);
  using progress = new Progress({ stderr: app.streams.stderr, label: `${vm}:${path}`, totalBytes: local?.sizeBytes });
  const written = await hub.client.writeFile(vm, path, progress.count(chunks), {
    host,
    mode: mode ?? local?.mode,
    signal: app.signal,
    timeoutMs: timeout,
  });
  return { bytes: written.bytes, to: `${vm}:${path}` };
}

async function out(
  app: App,
  { hub, options: { timeout } }: Session,
  source: Place & { readonly kind: 'guest' },
  target: Place,
  { host, mode }: CopyOptions,
): Promise<Copied> {
  const { vm, path } = source;
  const { sizeBytes, chunks } = await hub.client.readFile(vm, path, { host, signal: app.signal, timeoutMs: timeout });
  using progress = new Progress({ stderr: app.streams.stderr, label: `${vm}:${path}`, totalBytes: sizeBytes });
  const counted = progress.count(untilInterrupted(chunks, app.signal));
  if (target.kind !== 'local') {
    const { stdout } = app.streams;
    for await (const chunk of counted) {
      // It may never drain: its reader has gone, or its disk is full.
      if (!stdout.write(chunk)) await once(stdout, 'drain', { signal: app.signal });
    }
    return { bytes: progress.bytes, to: 'standard output' };
  }
  const place = withName(await directorySlash(target.path), source);
  await writeWhole(place, counted, mode);
  return { bytes: progress.bytes, to: place };
}

/** Under a name of its own beside the target, until it is whole. */
async function writeWhole(path: string, chunks: AsyncIterable<Uint8Array>, mode: number | undefined): Promise<void> {
  const temporary = join(dirname(path), `.${basename(path)}.${process.pid}.part`);
  try {
    await using file = await open(temporary, 'w', 0o666);
    for await (const chunk of chunks) await file.writeFile(chunk);
    await file.sync();
    if (mode !== undefined) await chmod(temporary, mode);
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    if (error instanceof Error && 'syscall' in error) {
      const isMissing = 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR');
      const code = isMissing ? 'NOT_FOUND' : 'STORAGE_FAILED';
      throw new FairleadError(code, `could not write ${path}: ${error.message}`, { cause: error });
    }
    throw error;
  }
}

async function fileAt(path: string): Promise<{ path: string; sizeBytes: number; mode: number }> {
  const facts = await stat(path).catch((cause: unknown) => {
    throw new FairleadError('NOT_FOUND', `could not read ${path}: ${cause instanceof Error ? cause.message : String(cause)}`, {
      cause,
    });
  });
  if (facts.isDirectory()) {
    const todo = 'pack it first, for example with tar';
    throw new FairleadError('INVALID_PARAMS', `${path} is a directory, and files are copied one by one: ${todo}`);
  }
  return { path, sizeBytes: facts.size, mode: facts.mode & PERMISSIONS };
}

/** A directory that is there is meant as one. */
async function directorySlash(path: string): Promise<string> {
  const isDirectory = await stat(path).then(
    (facts) => facts.isDirectory(),
    () => false,
  );
  return isDirectory && !path.endsWith('/') ? `${path}/` : path;
}

function parseMode(text: string): number {
  if (!/^[0-7]{3,4}$/.test(text)) throw new InvalidArgumentError('Write octal digits, such as 0755.');
  return Number.parseInt(text, 8);
}
