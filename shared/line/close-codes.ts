/** How errors and WebSocket close codes (RFC 6455 §7.4) tell of each other. */
import { FairleadError } from '../errors.ts';
import type { LineClosed } from './types.ts';

/** A close frame has 125 bytes (RFC 6455 §5.5), two of them for the code. */
export const MAX_CLOSE_REASON_BYTES = 123;

/** What to close with because of an error of this side. */
export function closeCodeOf(error: FairleadError): number {
  switch (error.code) {
    case 'PROTOCOL_ERROR':
    case 'FLOW_CONTROL':
    case 'PARSE_ERROR':
    case 'INVALID_REQUEST':
      return 1002;
    case 'LIMIT_EXCEEDED':
    case 'TIMEOUT':
    case 'PERMISSION_DENIED':
    case 'UNAUTHENTICATED':
      return 1008;
    default:
      return 1011;
  }
}

/**
 * Whether a line that ended with that code broke, so that a dialler comes back for its streams: it dropped (1006), or the hub goes away or
 * starts anew (1001, 1012, 1013). Every other end is for good: on purpose, or because somebody did what is not allowed.
 */
export function isBreak(code: number): boolean {
  return code === 1001 || code === 1006 || code === 1012 || code === 1013;
}

/** What the socket's end means. 1000 and 1001 are on purpose, 1006 is a line that dropped. */
export function remoteClose(code: number, reason: string): LineClosed {
  if (code === 1000 || code === 1001) return { error: undefined, code, reason };
  const text = code === 1006 ? 'the line dropped' : `the other side closed the line with ${code}`;
  const message = reason === '' ? text : `${text}: ${reason}`;
  return { error: new FairleadError('INTERRUPTED', message, { details: { closeCode: code } }), code, reason };
}
