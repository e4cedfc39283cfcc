/**
 * The base of every error that crosses a module's border.
 *
 * Match on `code`, never on the class or the message: an error that came over the wire has the code and details of the original but
 * is a plain FairleadError. The message is a lower-case clause that says what failed, on what, why, and where it helps what to do;
 * the reason underneath is kept in `cause`.
 */
import { ERROR_TABLE, type ErrorCode } from './protocol/error-table.ts';

export type JsonValue = null | boolean | number | string | readonly JsonValue[] | JsonObject;
export interface JsonObject {
  readonly [key: string]: JsonValue | undefined;
}

export interface FairleadErrorOptions {
  /** Facts for programs, such as `{state, required}` of WRONG_STATE or `{issues}` of INVALID_PARAMS. Small: it goes over the wire. */
  readonly details?: JsonObject | undefined;
  readonly cause?: unknown;
}

export class FairleadError extends Error {
  override readonly name = 'FairleadError';
  readonly code: ErrorCode;
  readonly details: JsonObject | undefined;

  constructor(code: ErrorCode, message: string, options: FairleadErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.details = options.details;
  }

  /** True when the very same call may succeed later without anybody changing anything. */
  get retryable(): boolean {
    return ERROR_TABLE[this.code].retryable;
  }
}

export function isFairleadError(value: unknown): value is FairleadError {
  return value instanceof FairleadError;
}

/** Whatever was thrown, as a FairleadError: unknown things become INTERNAL with the original as cause. */
export function toFairleadError(thrown: unknown, code: ErrorCode = 'INTERNAL'): FairleadError {
  if (isFairleadError(thrown)) return thrown;
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return new FairleadError(code, message, { cause: thrown });
}
