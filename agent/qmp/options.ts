/** What a QMP client is given and what it tells: options, observers, statistics. No behaviour. */

import type { Cancellation } from '../../shared/cancellation.ts';

/**
 * The life of a session, drawn in client.ts. `closed` is final: a new session is a new client.
 */
export type QmpState = 'connecting' | 'negotiating' | 'ready' | 'closed';

/** The part of a pino logger that the client uses. */
export interface QmpLogger {
  debug(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

/** Hooks for metrics and tests. They are called synchronously; one that throws closes the session with what it threw. */
export interface QmpObserver {
  /** Once for each command, when it settles. The time counts from the call, so it includes waiting for a free slot. */
  onCommand?(outcome: { readonly command: string; readonly ok: boolean; readonly durationMs: number }): void;
  onState?(state: QmpState): void;
}

export interface QmpSessionOptions {
  /** Longest wait for the greeting, and then for the reply to `qmp_capabilities`. Default 5,000. */
  readonly greetingTimeoutMs?: number | undefined;
  /** Deadline of a command that names none. Default 10,000. */
  readonly commandTimeoutMs?: number | undefined;
  /** Longest message that is taken, in bytes. Default 16 MiB; the longest seen is `query-qmp-schema` with 0.2 MiB. */
  readonly maxMessageBytes?: number | undefined;
  readonly logger?: QmpLogger | undefined;
  readonly observer?: QmpObserver | undefined;
  /** Ends the set-up with CANCELLED; without effect once the session is ready. */
  readonly signal?: AbortSignal | undefined;
}

export interface QmpConnectOptions extends QmpSessionOptions {
  /** The monitor's unix socket. */
  readonly path: string;
  /** Default 5,000. */
  readonly connectTimeoutMs?: number | undefined;
}

export interface QmpOverOptions extends QmpSessionOptions {
  /** What messages and logs call the monitor. */
  readonly name: string;
}

export interface ExecuteOptions {
  /** Counts from the call. Default: `commandTimeoutMs` of the session. */
  readonly timeoutMs?: number | undefined;
  /** Send it past the commands that are waiting (`exec-oob`); only the commands in `OOB_COMMANDS`, where the server offers it. */
  readonly oob?: boolean | undefined;
  /** Go to QEMU with the command (SCM_RIGHTS), such as that of `getfd`; the caller's own stay open. Needs the native add-on. */
  readonly fds?: readonly number[] | undefined;
  readonly signal?: Cancellation | undefined;
}

export interface QmpStatistics {
  /** Commands that have settled, and how many of these did not succeed. */
  readonly commands: number;
  readonly failures: number;
  readonly events: number;
  /** Replies to commands that had been given up (timed out or cancelled). */
  readonly lateReplies: number;
  /** Replies with an id that was never sent. */
  readonly unknownReplies: number;
}
