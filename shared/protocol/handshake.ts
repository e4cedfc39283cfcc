/**
 * How an agent proves who it is, before a WebSocket exists. Pure: what is sent, and the exact bytes that are signed; keys and sockets
 * are `shared/node/host-key.ts` and the two ends.
 *
 *   agent                                             hub
 *     | POST /agent/enrol {token, publicKey, proof} -->|   once: a token buys the public key a host name
 *     |<-- {host, hubId} ------------------------------|   the agent pins hubId
 *     | GET /agent/challenge ------------------------->|   each connect
 *     |<-- {nonce, hubId, expiresAt} ------------------|
 *     | GET /agent, Upgrade, authorization: … -------->|   signature over everything below, checked before the 101
 *     |<-- 101, fairlead.v1 ---------------------------|
 *
 * No bearer secret crosses the wire after enrolment. A signature is good for one nonce, one hub, one host, and, where TLS ends in
 * the hub itself, one TLS connection (RFC 9266), so that nobody in the middle can carry it elsewhere.
 *
 * A refusal is an HTTP status with a `Refusal` body: 401 UNAUTHENTICATED, 403 PERMISSION_DENIED, 409 CONFLICT (the name is taken by
 * another key), 426 PROTOCOL_ERROR (sub-protocol), 429 and 503 LIMIT_EXCEEDED with Retry-After in seconds.
 */
import * as v from 'valibot';
import { Labels, Name, Timestamp } from './common.ts';
import { SUBPROTOCOL } from './version.ts';

export const AGENT_PATH = '/agent';
export const ENROL_PATH = '/agent/enrol';
export const CHALLENGE_PATH = '/agent/challenge';
/** Scheme of the `authorization` header of the upgrade (RFC 9110 §11.4): `Fairlead-Ed25519 <base64url of a ConnectProof as JSON>`. */
export const AUTH_SCHEME = 'Fairlead-Ed25519';
/** Longest header value that a hub looks at; a real one is about 500 characters. */
export const MAX_AUTH_HEADER_LENGTH = 2048;
/** Length of hub and agent nonces in bytes. */
export const NONCE_BYTES = 32;
/** `tls-exporter` of RFC 9266: label and length, with an empty context. */
export const CHANNEL_BINDING_LABEL = 'EXPORTER-Channel-Binding';
export const CHANNEL_BINDING_BYTES = 32;

const ENROL_CONTEXT = 'fairlead-enrol-v1';
const CONNECT_CONTEXT = 'fairlead-connect-v1';

/** base64url without padding (RFC 4648 §5) of exactly `bytes` bytes. */
const base64url = (bytes: number) => v.pipe(v.string(), v.length(Math.ceil((bytes * 4) / 3)), v.regex(/^[A-Za-z0-9_-]+$/));

/** Raw ed25519 public key, 32 bytes. */
export const PublicKey = base64url(32);
const Signature = base64url(64);
const Nonce = base64url(NONCE_BYTES);
const HubId = v.pipe(v.string(), v.minLength(1), v.maxLength(64), v.regex(/^[A-Za-z0-9_-]+$/));

export const EnrolRequest = v.strictObject({
  token: v.pipe(v.string(), v.minLength(1), v.maxLength(512), v.regex(/^[\x21-\x7e]+$/)),
  /** The name the host wants. */
  host: Name,
  publicKey: PublicKey,
  labels: v.optional(Labels, {}),
  /** Signature over `enrolProofBytes`: whoever enrols a key has it. */
  proof: Signature,
});
export type EnrolRequest = v.InferOutput<typeof EnrolRequest>;

/** Answers may grow: an agent takes no notice of what it does not know. */
export const EnrolResponse = v.object({ host: Name, hubId: HubId });
export type EnrolResponse = v.InferOutput<typeof EnrolResponse>;

export const Challenge = v.object({ nonce: Nonce, hubId: HubId, expiresAt: Timestamp });
export type Challenge = v.InferOutput<typeof Challenge>;

/** `none` where TLS ends in a proxy, or there is none; a hub takes it only where it is configured so. */
export const ChannelBinding = v.picklist(['tls-exporter', 'none']);
export type ChannelBinding = v.InferOutput<typeof ChannelBinding>;

export const ConnectProof = v.strictObject({
  host: Name,
  /** The challenge's nonce and expiry, as the hub wrote them. */
  nonce: Nonce,
  expiresAt: Timestamp,
  agentNonce: Nonce,
  protocol: v.literal(SUBPROTOCOL),
  binding: ChannelBinding,
  /** Signature over `connectProofBytes`. */
  signature: Signature,
});
export type ConnectProof = v.InferOutput<typeof ConnectProof>;

export const Refusal = v.object({
  error: v.object({ code: v.pipe(v.string(), v.maxLength(64)), message: v.pipe(v.string(), v.maxLength(2000)) }),
});
export type Refusal = v.InferOutput<typeof Refusal>;

/** What the agent signs to enrol. `tokenDigest` is the SHA-256 of the token's UTF-8 bytes. */
export function enrolProofBytes(fields: { publicKey: string; tokenDigest: Uint8Array; host: string }): Uint8Array<ArrayBuffer> {
  return lengthPrefixed([ENROL_CONTEXT, fields.publicKey, fields.tokenDigest, fields.host]);
}

/** What the agent signs to connect. `bindingBytes` is the exporter's output, or empty for `none`. */
export function connectProofBytes(
  proof: Omit<ConnectProof, 'signature'>,
  context: { hubId: string; bindingBytes: Uint8Array },
): Uint8Array<ArrayBuffer> {
  return lengthPrefixed([
    CONNECT_CONTEXT,
    proof.nonce,
    proof.agentNonce,
    proof.host,
    context.hubId,
    proof.binding,
    context.bindingBytes,
    proof.expiresAt,
    proof.protocol,
  ]);
}

/** Value of the `authorization` header. */
export function formatAuthorization(proof: ConnectProof): string {
  const base64 = btoa(JSON.stringify(proof));
  return `${AUTH_SCHEME} ${base64.replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '')}`;
}

/** The proof in an `authorization` header, or undefined for anything that is not one. Never throws. */
export function parseAuthorization(header: string | undefined): ConnectProof | undefined {
  if (header === undefined || header.length > MAX_AUTH_HEADER_LENGTH) return undefined;
  const [scheme, value, ...rest] = header.split(' ');
  if (scheme?.toLowerCase() !== AUTH_SCHEME.toLowerCase() || value === undefined || rest.length > 0) return undefined;
  try {
    const json: unknown = JSON.parse(atob(value.replaceAll('-', '+').replaceAll('_', '/')));
    const parsed = v.safeParse(ConnectProof, json);
    return parsed.success ? parsed.output : undefined;
  } catch {
    return undefined;
  }
}

export interface HubEndpoints {
  readonly enrol: URL;
  readonly challenge: URL;
  /** `ws:` or `wss:`. */
  readonly connect: URL;
  readonly secure: boolean;
  /** The hub is on this machine, so that plain `ws:` is in order. */
  readonly loopback: boolean;
}

/**
 * The hub's addresses from the one that people write: `wss://hub.example`, `https://proxy.example/fairlead`, `ws://127.0.0.1:7700`.
 * Undefined for anything else, credentials in the address included.
 */
export function hubEndpoints(address: string): HubEndpoints | undefined {
  if (!URL.canParse(address)) return undefined;
  const url = new URL(address);
  if (!['ws:', 'wss:', 'http:', 'https:'].includes(url.protocol) || url.username !== '' || url.password !== '') return undefined;
  if (url.search !== '' || url.hash !== '') return undefined;
  const secure = url.protocol === 'wss:' || url.protocol === 'https:';
  const prefix = url.pathname.replace(/\/+$/, '');
  const at = (scheme: string, path: string) => new URL(`${secure ? `${scheme}s` : scheme}://${url.host}${prefix}${path}`);
  return {
    enrol: at('http', ENROL_PATH),
    challenge: at('http', CHALLENGE_PATH),
    connect: at('ws', AGENT_PATH),
    secure,
    loopback: isLoopbackHost(url.hostname),
  };
}

/** `hostname` as in URL.hostname, IPv6 in brackets or bare. A name other than `localhost` is not resolved, hence not loopback. */
export function isLoopbackHost(hostname: string): boolean {
  return hostname === 'localhost' || hostname === '[::1]' || hostname === '::1' || /^127(\.\d{1,3}){3}$/.test(hostname);
}

/** Each part after its length as u32 big-endian, so that no two lists of parts have the same bytes. */
function lengthPrefixed(parts: readonly (string | Uint8Array)[]): Uint8Array<ArrayBuffer> {
  const encoder = new TextEncoder();
  const chunks = parts.map((part) => (typeof part === 'string' ? encoder.encode(part) : part));
  const bytes = new Uint8Array(chunks.reduce((sum, chunk) => sum + 4 + chunk.length, 0));
  const view = new DataView(bytes.buffer);
  let offset = 0;
  for (const chunk of chunks) {
    view.setUint32(offset, chunk.length);
    bytes.set(chunk, offset + 4);
    offset += 4 + chunk.length;
  }
  return bytes;
}
