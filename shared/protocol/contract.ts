/** The shape of one row of the method table (methods.ts says how the rows are used). */
import type * as v from 'valibot';
import type { ErrorCode } from './error-table.ts';

export type Role = 'viewer' | 'operator' | 'admin';

export interface MethodContract {
  readonly target: 'agent' | 'hub';
  readonly kind: 'call' | 'stream';
  /** The least role that may call it; viewer < operator < admin. */
  readonly role: Role;
  /** Calling it twice has the effect of calling it once. */
  readonly idempotent: boolean;
  /** First contract version that has it. */
  readonly since: number;
  readonly summary: string;
  readonly params: v.GenericSchema;
  readonly result: v.GenericSchema;
  /** Schema of each `$/progress` value, for methods that report while they run. */
  readonly progress?: v.GenericSchema;
  /** Codes beyond those that every call can end with (`EVERY_CALL_ERRORS`, for agent methods `FORWARDED_CALL_ERRORS` as well). */
  readonly errors: readonly ErrorCode[];
}

/** What any call can end with. */
export const EVERY_CALL_ERRORS: readonly ErrorCode[] = [
  'INVALID_REQUEST',
  'METHOD_NOT_FOUND',
  'INVALID_PARAMS',
  'INTERNAL',
  'CANCELLED',
  'TIMEOUT',
  'INTERRUPTED',
  'UNAUTHENTICATED',
  'PERMISSION_DENIED',
  'LIMIT_EXCEEDED',
];

/** What a call that the hub passes on to a host can end with besides: the host is away, unknown, or not the only one in question. */
export const FORWARDED_CALL_ERRORS: readonly ErrorCode[] = ['HOST_UNREACHABLE', 'NOT_FOUND', 'CONFLICT'];

/** What a call that changes something on a host can end with besides: the host's journal stands before it. */
export const JOURNALLED_CALL_ERRORS: readonly ErrorCode[] = ['JOURNAL_FAILED', 'OUTCOME_UNKNOWN', 'RESULT_NOT_KEPT'];

/** What a method can end with beyond its own errors: one answered by the hub, one passed on to a host, and one that changes something there. */
export const COMMON_ERRORS = {
  hub: EVERY_CALL_ERRORS,
  host: [...EVERY_CALL_ERRORS, ...FORWARDED_CALL_ERRORS],
  command: [...EVERY_CALL_ERRORS, ...FORWARDED_CALL_ERRORS, ...JOURNALLED_CALL_ERRORS],
} as const satisfies Record<string, readonly ErrorCode[]>;

export type CommonErrors = keyof typeof COMMON_ERRORS;

export function commonErrorsOf({ target, kind, role }: MethodContract): CommonErrors {
  if (target === 'hub') return 'hub';
  return kind === 'call' && role !== 'viewer' ? 'command' : 'host';
}
