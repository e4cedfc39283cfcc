/**
 * Archives of plain files, as POSIX.1-1988 "ustar" has them, so that `tar` reads them too. Nothing but regular files with relative names is
 * written or taken: no links, no devices, no way out of the directory.
 */
import { FairleadError } from '../errors.ts';

export interface TarFile {
  /** Relative, with `/`. */
  readonly path: string;
  readonly content: Uint8Array;
  readonly isExecutable: boolean;
}

const BLOCK = 512;
const MAX_NAME = 100;
const MAX_PREFIX = 155;
const EXECUTABLE = 0o100;
const REGULAR = new Set(['0', '\0']);
const DIRECTORY = '5';

/** The parts of an archive; times and owners are not kept, so that the same files make the same archive. */
export function* tarOf(files: Iterable<TarFile>): Generator<Uint8Array> {
  for (const file of files) {
    yield headerOf(file);
    yield file.content;
    const rest = file.content.length % BLOCK;
    if (rest > 0) yield new Uint8Array(BLOCK - rest);
  }
  yield new Uint8Array(2 * BLOCK);
}

/**
 * One file after the other; each is in memory at once, so `maxFileBytes` bounds it.
 * @throws FairleadError PROTOCOL_ERROR for what is no such archive, LIMIT_EXCEEDED
 */
export async function* filesOfTar(
  chunks: AsyncIterable<Uint8Array>,
  { maxFileBytes, maxFiles }: { readonly maxFileBytes: number; readonly maxFiles: number },
): AsyncGenerator<TarFile> {
  const blocks = new Blocks(chunks);
  for (let count = 0; ; ) {
    const header = await blocks.take(BLOCK);
    if (header.every((byte) => byte === 0)) return;
    const { path, bytes, mode, type } = readHeader(header);
    if (bytes > maxFileBytes) throw new FairleadError('LIMIT_EXCEEDED', `${path} in the archive has ${bytes} bytes`);
    const content = await blocks.take(bytes);
    await blocks.take((BLOCK - (bytes % BLOCK)) % BLOCK);
    if (type === DIRECTORY) continue;
    if (!REGULAR.has(type)) throw malformed(`${path} is no regular file`);
    if (++count > maxFiles) throw new FairleadError('LIMIT_EXCEEDED', `the archive has more than ${maxFiles} files`);
    yield { path: safePath(path), content, isExecutable: (mode & EXECUTABLE) !== 0 };
  }
}

function headerOf({ path, content, isExecutable }: TarFile): Uint8Array {
  const header = Buffer.alloc(BLOCK);
  const { prefix, name } = splitName(safePath(path));
  const field = (text: string, at: number): void => void header.write(text, at, 'utf8');
  field(name, 0);
  field(isExecutable ? '0000755\0' : '0000644\0', 100);
  field('0000000\0', 108);
  field('0000000\0', 116);
  field(`${content.length.toString(8).padStart(11, '0')}\0`, 124);
  field('00000000000\0', 136);
  field('        ', 148);
  field('0', 156);
  field('ustar\0', 257);
  field('00', 263);
  field(prefix, 345);
  field(`${sumOf(header).toString(8).padStart(6, '0')}\0 `, 148);
  return header;
}

function readHeader(header: Buffer): { path: string; bytes: number; mode: number; type: string } {
  const text = (at: number, length: number): string => {
    const field = header.subarray(at, at + length);
    const end = field.indexOf(0);
    return field.toString('utf8', 0, end < 0 ? length : end);
  };
  const number = (at: number, length: number): number => {
    const digits = text(at, length).trim();
    if (!/^[0-7]*$/.test(digits)) throw malformed('a header has no number where one belongs');
    return digits === '' ? 0 : Number.parseInt(digits, 8);
  };
  if (text(257, 5) !== 'ustar') throw malformed('it is no ustar archive');
  const sum = number(148, 8);
  header.fill(' ', 148, 156);
  if (sumOf(header) !== sum) throw malformed('the sum of a header is wrong');
  const prefix = text(345, MAX_PREFIX);
  const path = prefix === '' ? text(0, MAX_NAME) : `${prefix}/${text(0, MAX_NAME)}`;
  return { path, bytes: number(124, 12), mode: number(100, 8), type: header.toString('latin1', 156, 157) };
}

function sumOf(header: Uint8Array): number {
  return header.reduce((sum, byte) => sum + byte, 0);
}

/** @throws FairleadError PROTOCOL_ERROR for one that leads elsewhere */
function safePath(path: string): string {
  const parts = path.split('/');
  const isSafe =
    !path.startsWith('/') && !path.includes('\0') && parts.every((part) => part !== '' && part !== '.' && part !== '..');
  if (!isSafe) throw malformed(`${JSON.stringify(path)} is no plain relative name`);
  return path;
}

/** Names over 100 bytes are cut at a slash. @throws FairleadError LIMIT_EXCEEDED where that cannot be */
function splitName(path: string): { prefix: string; name: string } {
  if (Buffer.byteLength(path) <= MAX_NAME) return { prefix: '', name: path };
  for (let at = path.indexOf('/'); at > 0; at = path.indexOf('/', at + 1)) {
    const [prefix, name] = [path.slice(0, at), path.slice(at + 1)];
    if (Buffer.byteLength(name) <= MAX_NAME && Buffer.byteLength(prefix) <= MAX_PREFIX) return { prefix, name };
  }
  throw new FairleadError('LIMIT_EXCEEDED', `the name ${path} is too long for an archive`);
}

function malformed(why: string): FairleadError {
  return new FairleadError('PROTOCOL_ERROR', `the archive cannot be unpacked: ${why}`);
}

/** Bytes as they come, taken in the sizes that are wanted. */
class Blocks {
  readonly #chunks: AsyncIterator<Uint8Array>;
  #rest: Buffer = Buffer.alloc(0);

  constructor(chunks: AsyncIterable<Uint8Array>) {
    this.#chunks = chunks[Symbol.asyncIterator]();
  }

  async take(bytes: number): Promise<Buffer> {
    const parts: Buffer[] = [this.#rest];
    let have = this.#rest.length;
    while (have < bytes) {
      const { done, value } = await this.#chunks.next();
      if (done === true) throw malformed('it ends in the middle of a file');
      parts.push(Buffer.from(value.buffer, value.byteOffset, value.length));
      have += value.length;
    }
    const all = parts.length === 1 ? this.#rest : Buffer.concat(parts);
    this.#rest = all.subarray(bytes);
    return all.subarray(0, bytes);
  }
}
