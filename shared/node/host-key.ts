/**
 * The ed25519 key of a host (RFC 8032). The agent makes it once and signs with it; the hub keeps the public half and verifies.
 *
 * On disk it is PKCS#8 PEM, mode 0600, made in one step: a crash leaves either no key or a whole one, and of two processes that make
 * it at once both end up with the same.
 */
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign,
  verify,
} from 'node:crypto';
import { link, open, readFile, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { FairleadError } from '../errors.ts';

export interface HostKey {
  /** base64url of the raw 32 bytes. */
  readonly publicKey: string;
  /** base64url of the 64 bytes of the signature. */
  sign(bytes: Uint8Array): string;
}

export function generateHostKey(): HostKey {
  return hostKeyOf(generateKeyPairSync('ed25519').privateKey);
}

/** True when `signature` is that of `bytes` by the holder of `publicKey`; false for a malformed key or signature too. */
export function verifySignature(publicKey: string, bytes: Uint8Array, signature: string): boolean {
  try {
    const key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x: publicKey }, format: 'jwk' });
    return verify(null, bytes, key, Buffer.from(signature, 'base64url'));
  } catch {
    return false;
  }
}

/** SHA-256 of a secret's UTF-8 bytes: what is stored or signed in its place. */
export function sha256(text: string): Buffer {
  return createHash('sha256').update(text, 'utf8').digest();
}

/** Loads the key at `path`, or makes it there when there is none. The directory exists. */
export async function loadOrCreateHostKey(path: string): Promise<HostKey> {
  const existing = await loadHostKey(path);
  if (existing !== undefined) return existing;
  const { privateKey } = generateKeyPairSync('ed25519');
  await writeNewFile(path, privateKey.export({ type: 'pkcs8', format: 'pem' }).toString());
  const stored = await loadHostKey(path);
  if (stored === undefined) throw new FairleadError('INTERNAL', `host key ${path} vanished while it was being made`);
  return stored;
}

/** The key at `path`, or undefined when there is no such file. */
export async function loadHostKey(path: string): Promise<HostKey | undefined> {
  let pem: string;
  try {
    const { mode } = await stat(path);
    if ((mode & 0o077) !== 0) {
      throw new FairleadError(
        'PERMISSION_DENIED',
        `host key ${path} can be read by others (mode ${(mode & 0o777).toString(8)}): take it as stolen, remove it and enrol again`,
      );
    }
    pem = await readFile(path, 'utf8');
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
  try {
    const key = createPrivateKey(pem);
    if (key.asymmetricKeyType !== 'ed25519') throw new Error(`it is a key of type ${key.asymmetricKeyType ?? 'unknown'}`);
    return hostKeyOf(key);
  } catch (error) {
    throw new FairleadError('INTERNAL', `host key ${path} is no ed25519 private key in PEM: remove it and enrol again`, {
      cause: error,
    });
  }
}

function hostKeyOf(privateKey: KeyObject): HostKey {
  const { x } = createPublicKey(privateKey).export({ format: 'jwk' });
  if (x === undefined) throw new FairleadError('INTERNAL', 'an ed25519 key has no public half');
  return {
    publicKey: x,
    sign: (bytes) => sign(null, bytes, privateKey).toString('base64url'),
  };
}

/** Writes a file whole and durable, or leaves the one that is there: the name appears by link(2), which fails when it is taken. */
async function writeNewFile(path: string, content: string): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString('hex')}`;
  try {
    await using file = await open(temporary, 'wx', 0o600);
    await file.writeFile(content);
    await file.sync();
    await link(temporary, path).catch((error: unknown) => {
      if (!isErrno(error, 'EEXIST')) throw error;
    });
    await using directory = await open(dirname(path), 'r');
    await directory.sync();
  } finally {
    await rm(temporary, { force: true });
  }
}

function isMissing(error: unknown): boolean {
  return isErrno(error, 'ENOENT');
}

function isErrno(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}
