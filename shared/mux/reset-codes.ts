/** Codes of RESET and GOAWAY (u32). A code that a receiver does not know counts as INTERNAL. */
import { FairleadError } from '../errors.ts';
import type { ErrorCode } from '../protocol/error-table.ts';

export const RESET_CODES = {
  /** GOAWAY: planned, nothing is wrong. */
  NORMAL: 0,
  /** The one who opened the stream, or uses it, does not want it any more. */
  CANCELLED: 1,
  /** The accepting side takes no more part, without anything being wrong. */
  REFUSED: 2,
  TIMEOUT: 3,
  /** The VM behind the stream is gone. */
  NO_DEVICE: 4,
  /** The guest's end was reset (ECONNRESET, vsock RST). */
  RESET: 5,
  FLOW_CONTROL: 6,
  PROTOCOL: 7,
  INTERNAL: 8,
  /** The VM was suspended. */
  SUSPENDED: 9,
  /** A byte that the other side asks for again is not kept any more. */
  RESUME_GAP: 10,
  /** The line under the stream is gone. */
  SESSION_LOST: 11,
  /** The stream id was never opened in this session. */
  UNKNOWN_STREAM: 12,
  LIMIT: 13,
} as const;

export type ResetName = keyof typeof RESET_CODES;

// SAFETY: `Object.keys` widens to string[]; the table is a literal, so its keys are exactly ResetName.
const NAMES = new Map((Object.keys(RESET_CODES) as ResetName[]).map((name) => [RESET_CODES[name] as number, name]));

export function resetName(code: number): ResetName {
  return NAMES.get(code) ?? 'INTERNAL';
}

const ERROR_CODE: Partial<Record<ResetName, ErrorCode>> = {
  CANCELLED: 'CANCELLED',
  TIMEOUT: 'TIMEOUT',
  FLOW_CONTROL: 'FLOW_CONTROL',
  PROTOCOL: 'PROTOCOL_ERROR',
  SESSION_LOST: 'INTERRUPTED',
  LIMIT: 'LIMIT_EXCEEDED',
};

/** What the user of a reset stream is told. `details.reset` has the name of the code. */
export function resetError(code: number, reason: string): FairleadError {
  const name = resetName(code);
  const why = reason === '' ? '' : `: ${reason}`;
  const message = name === 'SESSION_LOST' ? `the stream ended with its line${why}` : `the stream was reset (${name})${why}`;
  return new FairleadError(ERROR_CODE[name] ?? 'STREAM_RESET', message, { details: { reset: name, code } });
}
