/**
 * Errors as JSON-RPC carries them: `{code: number, message, data: {code, retryable, details}}`, numbers from the error table.
 *
 * Stacks and causes stay where they arose: they belong in that side's log.
 */

import { FairleadError, type JsonObject } from '../errors.ts';
import { ERROR_TABLE, type ErrorCode, errorCodeOfRpc, isErrorCode } from '../protocol/error-table.ts';

export interface WireError {
  readonly code: number;
  readonly message: string;
  readonly data?: unknown;
}

/** UTF-16 units of a message that are sent or taken over; the rest is cut. */
const MAX_MESSAGE_LENGTH = 4096;

export function toWireError(error: FairleadError): WireError {
  return {
    code: ERROR_TABLE[error.code].rpc,
    message: cut(error.message),
    data: {
      code: error.code,
      retryable: error.retryable,
      ...(error.details === undefined ? {} : { details: error.details }),
    },
  };
}

/** The same error on the caller's side. A code that this side is too old to know becomes INTERNAL and keeps its name in `details`. */
export function fromWireError(wire: WireError): FairleadError {
  const data = isObject(wire.data) ? wire.data : {};
  const details = isObject(data['details']) ? data['details'] : undefined;
  const code: ErrorCode | undefined = isErrorCode(data['code']) ? data['code'] : errorCodeOfRpc(wire.code);
  if (code !== undefined) return new FairleadError(code, cut(wire.message), { details });
  const peerCode = typeof data['code'] === 'string' ? cut(data['code']) : undefined;
  return new FairleadError('INTERNAL', cut(wire.message), { details: { ...details, peerCode, peerNumber: wire.code } });
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function cut(text: string): string {
  return text.length <= MAX_MESSAGE_LENGTH ? text : `${text.slice(0, MAX_MESSAGE_LENGTH - 1)}…`;
}
