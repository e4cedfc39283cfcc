/** A handshake that was turned down before the 101, and how that reads as an HTTP answer (handshake.ts, `Refusal`). */
import { FairleadError, type JsonObject } from '../../shared/errors.ts';
import { ERROR_TABLE, type ErrorCode } from '../../shared/protocol/error-table.ts';

/** Label of the metrics: few, short, and chosen by us. */
export type RefusalReason =
  | 'malformed'
  | 'nonce'
  | 'expired'
  | 'binding'
  | 'unknown-host'
  | 'signature'
  | 'token'
  | 'conflict'
  | 'origin'
  | 'sub-protocol'
  | 'rate'
  | 'capacity'
  | 'draining'
  | 'fault';

export class HandshakeRefused extends FairleadError {
  readonly reason: RefusalReason;
  readonly status: number;
  /** When the caller may try again, milliseconds from now. */
  readonly retryAfterMs: number | undefined;

  constructor(
    code: ErrorCode,
    reason: RefusalReason,
    message: string,
    options: {
      readonly status?: number;
      readonly retryAfterMs?: number;
      readonly details?: JsonObject;
      readonly cause?: unknown;
    } = {},
  ) {
    super(code, message, { details: options.details, cause: options.cause });
    this.reason = reason;
    this.status = options.status ?? ERROR_TABLE[code].http;
    this.retryAfterMs = options.retryAfterMs;
  }
}

/** Any failure of a handshake as a refusal. What is no FairleadError is our own fault and tells the caller nothing but that. */
export function toRefusal(thrown: unknown): HandshakeRefused {
  if (thrown instanceof HandshakeRefused) return thrown;
  if (!(thrown instanceof FairleadError) || thrown.code === 'INTERNAL') {
    return new HandshakeRefused('INTERNAL', 'fault', 'the hub failed to answer; its log says why', { cause: thrown });
  }
  const reason = REASONS[thrown.code] ?? 'malformed';
  return new HandshakeRefused(thrown.code, reason, thrown.message, {
    ...(thrown.details === undefined ? {} : { details: thrown.details }),
    ...(thrown.code === 'LIMIT_EXCEEDED' ? { retryAfterMs: DEFAULT_RETRY_AFTER_MS } : {}),
  });
}

export function tooManyHandshakes(waitMs: number): HandshakeRefused {
  const options = { retryAfterMs: waitMs, details: { retryAfterMs: waitMs } };
  return new HandshakeRefused('LIMIT_EXCEEDED', 'rate', 'too many handshakes; try again later', options);
}

export function refusalHeaders(refusal: HandshakeRefused): Record<string, string> {
  const { code, retryAfterMs } = refusal;
  return {
    ...(retryAfterMs === undefined ? {} : { 'retry-after': String(Math.max(1, Math.ceil(retryAfterMs / 1000))) }),
    ...(code === 'UNAUTHENTICATED' ? { 'www-authenticate': 'Bearer realm="fairlead"' } : {}),
  };
}

export function refusalBody(refusal: HandshakeRefused): { error: { code: string; message: string } } {
  return { error: { code: refusal.code, message: refusal.message } };
}

const DEFAULT_RETRY_AFTER_MS = 5000;
const REASONS: Partial<Record<ErrorCode, RefusalReason>> = {
  UNAUTHENTICATED: 'token',
  CONFLICT: 'conflict',
  LIMIT_EXCEEDED: 'capacity',
  PROTOCOL_ERROR: 'sub-protocol',
};
