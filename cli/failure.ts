/** How a command fails: one sentence on standard error with its cause, and the exit code of the error table. */
import { FairleadError, toFairleadError } from '../shared/errors.ts';
import { printable } from '../shared/printable.ts';
import { ERROR_TABLE } from '../shared/protocol/error-table.ts';

export function exitCodeOf(error: unknown): number {
  return ERROR_TABLE[toFairleadError(error).code].exit;
}

/** `fairlead: CODE: what failed, on what, why` and then each cause that adds something. */
export function describeFailure(thrown: unknown): string {
  const error = toFairleadError(thrown);
  const lines = [`fairlead: ${error.message} (${error.code})`];
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
