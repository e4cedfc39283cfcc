/**
 * An operator's token where no header can be set: a browser's WebSocket offers it as a sub-protocol beside `fairlead.v1`. The hub reads it
 * and never chooses it, so that it does not come back. A query string would serve as well, and be written into the logs of every proxy.
 */
import { FairleadError } from '../errors.ts';

const PREFIX = 'fairlead.bearer.';
/** What a sub-protocol may be made of (RFC 6455 §4.1, RFC 9110 §5.6.2), as far as tokens need it. */
const TOKEN = /^[A-Za-z0-9_.~-]{1,512}$/;

/** @throws FairleadError INVALID_PARAMS for what is no token */
export function bearerProtocol(token: string): string {
  if (!TOKEN.test(token)) throw new FairleadError('INVALID_PARAMS', 'the token has characters that no token of a hub has');
  return `${PREFIX}${token}`;
}

/** What an `authorization` header would say, from a `sec-websocket-protocol` header; undefined where there is no token in it. */
export function bearerIn(header: string | undefined): string | undefined {
  const offered = (header ?? '').split(',').map((name) => name.trim());
  const token = offered.find((name) => name.startsWith(PREFIX))?.slice(PREFIX.length);
  return token !== undefined && TOKEN.test(token) ? `Bearer ${token}` : undefined;
}
