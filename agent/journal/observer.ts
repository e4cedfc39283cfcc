/** What the journal tells of itself, for metrics and the log. No function of it may throw. */
import type { FairleadError } from '../../shared/errors.ts';
import type { Loss } from './recovery.ts';

export interface JournalObserver {
  /** A batch is durable; `durationMs` is the time of its fdatasync alone. */
  synced(batch: { readonly records: number; readonly bytes: number; readonly durationMs: number }): void;
  /** A write did not become durable. Whoever asked for it is told. */
  writeFailed(error: FairleadError): void;
  /** The end of a write that a crash cut short was removed. */
  tornTail(bytes: number): void;
  /** Records are gone. */
  lost(loss: Loss): void;
  /** So many commands left before their day was over, because the journal was full. */
  forgot(commands: number): void;
}
