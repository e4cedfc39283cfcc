/** What every part of the VM side takes: how long a call may take, where to log, whom to tell of QMP. */
import type { Cancellation } from '../../shared/cancellation.ts';
import type { SnapshotMode } from '../../shared/protocol/snapshot.ts';

export interface CallOptions {
  readonly timeoutMs?: number | undefined;
  readonly signal?: Cancellation | undefined;
}

/** The part of pino that is used here. */
export interface Logger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** Told of what goes over QMP, for metrics. Must not throw. */
export interface VmObserver {
  /** Once for each command, when it settles. */
  onCommand(outcome: { readonly command: string; readonly ok: boolean; readonly durationMs: number }): void;
  /** An event that the supervisor listens for. */
  onEvent(name: string): void;
  /** A suspend or a resume that succeeded, from its turn among the commands of the VM to its end. */
  onSuspended?(outcome: { readonly durationMs: number; readonly deviceStateBytes: number }): void;
  onResumed?(outcome: { readonly durationMs: number }): void;
  /** One that was kept under a name. */
  onSnapshot?(outcome: { readonly mode: SnapshotMode; readonly durationMs: number; readonly storedBytes: number }): void;
}
