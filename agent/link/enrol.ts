/** Buys this host a place at the hub with a one-time token. Safe to repeat: the hub gives the same key the same answer. */
import { readFile } from 'node:fs/promises';
import type { HostKey } from '../../shared/node/host-key.ts';
import { sha256 } from '../../shared/node/host-key.ts';
import { type EnrolRequest, EnrolResponse, enrolProofBytes, type HubEndpoints } from '../../shared/protocol/handshake.ts';
import { askHub, LinkError } from './hub-http.ts';
import type { Identity } from './identity.ts';

export interface EnrolOptions {
  readonly endpoints: HubEndpoints;
  readonly key: HostKey;
  readonly token: string;
  readonly host: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly ca: string | undefined;
  readonly signal: AbortSignal;
}

/** @throws LinkError */
export async function enrol({ endpoints, key, token, host, labels, ca, signal }: EnrolOptions): Promise<Identity> {
  const { publicKey } = key;
  const tokenDigest = sha256(token);
  const body: EnrolRequest = {
    token,
    host,
    publicKey,
    labels: { ...labels },
    proof: key.sign(enrolProofBytes({ publicKey, tokenDigest, host })),
  };
  const answer = await askHub({ url: endpoints.enrol, schema: EnrolResponse, body, ca, signal });
  return { host: answer.host, hubId: answer.hubId, tokenDigest: tokenDigest.toString('base64url') };
}

/** The configured token, or undefined when there is none. A token file that is gone was used and removed: that is none. */
export async function readToken(source: {
  token?: string | undefined;
  tokenFile?: string | undefined;
}): Promise<string | undefined> {
  if (source.token !== undefined) return source.token;
  if (source.tokenFile === undefined) return undefined;
  try {
    const text = (await readFile(source.tokenFile, 'utf8')).trim();
    return text === '' ? undefined : text;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw new LinkError('refused', `could not read the token file ${source.tokenFile}: ${String(error)}`, { cause: error });
  }
}
