/** How a command fails: one sentence on standard error with its cause, and the exit code of the error table. */
import { FairleadError, toFairleadError } from '../shared/errors.ts';
import { printable } from '../shared/printable.ts';
import { ERROR_TABLE } from '../shared/protocol/error-table.ts';

export function exitCodeOf(error: unknown): number {
  return ERROR_TABLE[toFairleadError(error).code].exit;
}

/** After these the command may have taken effect, or may yet. */
const ASK_THE_HOST: readonly string[] = [
  'INTERRUPTED',
  'TIMEOUT',
  'CANCELLED',
  'JOURNAL_FAILED',
  'OUTCOME_UNKNOWN',
  'RESULT_NOT_KEPT',
];

/** `fairlead: CODE: what failed, on what, why` and then each cause that adds something. */
export function describeFailure(thrown: unknown): string {
  const error = toFairleadError(thrown);
  const lines = [`fairlead: ${error.message} (${error.code})`];
  const commandId = error.details?.['commandId'];
  if (ASK_THE_HOST.includes(error.code) && typeof commandId === 'string')
    lines.push(`  what became of it: fairlead op show ${commandId}`);
  for (let cause = error.cause; cause instanceof Error && lines.length < 5; cause = cause.cause) {
    if (!lines.some((line) => line.includes(messageOf(cause)))) lines.push(`  because: ${messageOf(cause)}`);
  }
  if (error.code === 'INTERNAL' && error.stack !== undefined && !(thrown instanceof FairleadError)) lines.push(error.stack);
  // Further lines are indented, so that none of them looks like a word of ours.
  return printable(lines.map((line) => line.replaceAll('\n', '\n  ')).join('\n'));
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
