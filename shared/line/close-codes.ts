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

/** What the socket's end means. 1000 and 1001 are on purpose, 1006 is a line that dropped. */
export function remoteClose(code: number, reason: string): LineClosed {
  if (code === 1000 || code === 1001) return { error: undefined, code, reason };
  const text = code === 1006 ? 'the line dropped' : `the other side closed the line with ${code}`;
  const message = reason === '' ? text : `${text}: ${reason}`;
  return { error: new FairleadError('INTERRUPTED', message, { details: { closeCode: code } }), code, reason };
}
