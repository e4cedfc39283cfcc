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
  /** Codes beyond those that every call can end with (protocol errors, TIMEOUT, CANCELLED, INTERRUPTED, authorisation). */
  readonly errors: readonly ErrorCode[];
}
