/**
 * The requests that come before the WebSocket (challenge, enrolment), and what a refusal of the hub means.
 *
 * Every failure is a LinkError. Nothing that a hub may answer is trusted to be what it should: bodies are bounded, and what is no
 * JSON of the right shape is an error that says so.
 */
import type { IncomingMessage } from 'node:http';
import * as v from 'valibot';
import { FairleadError } from '../../shared/errors.ts';
import { type HttpAgent, httpRequest, httpsRequest } from '../../shared/node/lean-http.ts';
import { Refusal } from '../../shared/protocol/handshake.ts';

const MAX_BODY_BYTES = 16 * 1024;
/** Longest time for which a hub is left alone because it says so. */
export const MAX_RETRY_AFTER_MS = 3_600_000;

/** Why there is no line. `kind` is also a label of metrics. */
export type LinkFailure =
  /** Nobody answers, or not in time. */
  | 'unreachable'
  /** The hub knows us and says no, or does not know us. */
  | 'refused'
  /** The hub asks for time. */
  | 'busy'
  /** What answers is no hub of this protocol. */
  | 'protocol'
  /** The hub is not the one that this host enrolled with. */
  | 'wrong-hub'
  /** This host's own key, identity or certificates cannot be read or written. */
  | 'local';
export const LINK_FAILURES = [
  'unreachable',
  'refused',
  'busy',
  'protocol',
  'wrong-hub',
  'local',
] as const satisfies LinkFailure[];

export class LinkError extends FairleadError {
  readonly kind: LinkFailure;
  /** The least time that the hub wants to be left alone. */
  readonly retryAfterMs: number | undefined;

  constructor(kind: LinkFailure, message: string, options: { retryAfterMs?: number | undefined; cause?: unknown } = {}) {
    super(CODES[kind], message, { cause: options.cause });
    this.kind = kind;
    this.retryAfterMs = options.retryAfterMs;
  }
}

const CODES = {
  unreachable: 'CONNECT_FAILED',
  refused: 'UNAUTHENTICATED',
  busy: 'LIMIT_EXCEEDED',
  protocol: 'PROTOCOL_ERROR',
  'wrong-hub': 'PERMISSION_DENIED',
  local: 'INTERNAL',
} as const satisfies Record<LinkFailure, string>;

export interface HubRequest<S extends v.GenericSchema> {
  readonly url: URL;
  readonly schema: S;
  /** Sent by POST as JSON; without one it is a GET. */
  readonly body?: unknown;
  readonly ca: string | undefined;
  /** Whose connection it takes, and leaves to what comes next; by default one of its own, closed after the answer. */
  readonly agent?: HttpAgent | undefined;
  readonly signal: AbortSignal;
}

/** One request, one answer of the schema's shape. @throws LinkError */
export async function askHub<S extends v.GenericSchema>(options: HubRequest<S>): Promise<v.InferOutput<S>> {
  const { url, schema } = options;
  const response = await send(options);
  const text = await readBody(response, url);
  if (response.statusCode !== 200) throw refusalOf(response, text, url);
  const parsed = v.safeParse(schema, parseJson(text));
  if (!parsed.success)
    throw new LinkError('protocol', `${url.href} answered with something that is not for an agent: is it a Fairlead hub?`);
  return parsed.output;
}

/** What an answer other than the one hoped for means. */
export function refusalOf(response: IncomingMessage, text: string, url: URL): LinkError {
  const status = response.statusCode ?? 0;
  const refusal = v.safeParse(Refusal, parseJson(text));
  const said = refusal.success ? refusal.output.error.message : `HTTP status ${status}`;
  if (status === 429 || status === 503) {
    const retryAfterMs = retryAfter(response.headers['retry-after']);
    return new LinkError('busy', `the hub at ${url.host} asks to come later: ${said}`, { retryAfterMs });
  }
  if (refusal.success && status >= 400 && status < 500) {
    return new LinkError('refused', `the hub at ${url.host} refused this host: ${said}`);
  }
  return new LinkError(
    'protocol',
    `${url.href} answered with HTTP status ${status}${refusal.success ? `: ${said}` : ': is it a Fairlead hub?'}`,
  );
}

/** The body as text, as far as an answer of a hub may be long. */
export async function readBody(response: IncomingMessage, url: URL): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of response) {
      const buffer: Buffer = chunk;
      bytes += buffer.length;
      if (bytes > MAX_BODY_BYTES) throw new LinkError('protocol', `${url.href} answered with more than ${MAX_BODY_BYTES} bytes`);
      chunks.push(buffer);
    }
  } catch (error) {
    response.destroy();
    throw toLinkError(error, url);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** Failures of sockets, of TLS and of Node's HTTP parser, in words. */
export function toLinkError(error: unknown, url: URL): LinkError {
  if (error instanceof LinkError) return error;
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  const message = error instanceof Error ? error.message : String(error);
  if (code.startsWith('HPE_')) {
    return new LinkError('protocol', `${url.host} does not speak HTTP: ${message}`, { cause: error });
  }
  const isTimeout = error instanceof Error && error.name === 'TimeoutError';
  const why = isTimeout ? 'no answer in time' : message === '' ? code : message;
  return new LinkError('unreachable', `could not reach the hub at ${url.host}: ${why}`, { cause: error });
}

function send<S extends v.GenericSchema>({ url, body, ca, agent, signal }: HubRequest<S>): Promise<IncomingMessage> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const payload = body === undefined ? undefined : JSON.stringify(body);
  const options = {
    method: payload === undefined ? 'GET' : 'POST',
    agent: agent ?? (false as const),
    signal,
    headers: payload === undefined ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(payload) },
  };
  const request =
    url.protocol === 'https:'
      ? httpsRequest(url, { ...options, ...(ca === undefined ? {} : { ca }) }, resolve)
      : httpRequest(url, options, resolve);
  request.on('error', (error) => reject(toLinkError(signal.aborted ? signal.reason : error, url)));
  request.end(payload);
  return promise;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** RFC 9110 §10.2.3: seconds, or a date. */
function retryAfter(header: string | undefined): number | undefined {
  if (header === undefined) return undefined;
  const ms = /^\d+$/.test(header) ? Number(header) * 1000 : Date.parse(header) - Date.now();
  return Number.isFinite(ms) ? Math.min(Math.max(0, ms), MAX_RETRY_AFTER_MS) : undefined;
}
