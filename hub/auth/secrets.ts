/**
 * Tokens as people carry them: `fle_<id>_<secret>` lets a host enrol, `flo_<id>_<secret>` is an operator. The id finds the record and may
 * be shown; the secret is 256 random bits, of which the hub keeps only the SHA-256 (no salt or slow hash: there is nothing to guess).
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';

const PREFIXES = { enrol: 'fle', operator: 'flo' } as const;
export type TokenKind = keyof typeof PREFIXES;

const ID_BYTES = 8;
const SECRET_BYTES = 32;
const TOKEN = /^(fle|flo)_([0-9a-f]{16})_([A-Za-z0-9_-]{43})$/;

export interface NewSecret {
  readonly id: string;
  /** The only copy of the secret there will ever be. */
  readonly token: string;
  readonly secretHash: string;
}

export function newSecret(kind: TokenKind): NewSecret {
  const id = randomBytes(ID_BYTES).toString('hex');
  const secret = randomBytes(SECRET_BYTES).toString('base64url');
  return { id, token: `${PREFIXES[kind]}_${id}_${secret}`, secretHash: hashSecret(secret).toString('hex') };
}

/** The parts of a token of that kind, or undefined for anything else. */
export function parseToken(kind: TokenKind, text: string): { id: string; secret: string } | undefined {
  const [, prefix, id, secret] = TOKEN.exec(text) ?? [];
  return prefix !== PREFIXES[kind] || id === undefined || secret === undefined ? undefined : { id, secret };
}

/** In time that does not depend on where the two differ. */
export function secretMatches(secret: string, secretHash: string): boolean {
  return timingSafeEqual(hashSecret(secret), Buffer.from(secretHash, 'hex'));
}

function hashSecret(secret: string): Buffer {
  return createHash('sha256').update(secret, 'utf8').digest();
}
