/** Lists of commands, newest first, a page at a time. */
import type { Params } from '../../shared/protocol/methods.ts';
import type { OperationSummary } from '../../shared/protocol/methods-operation.ts';

export type OperationQuery = Params<'op.list'>;

export interface OperationPage {
  readonly operations: OperationSummary[];
  readonly next?: string;
}

/** The place of a row: by time, and by id where times are the same. What comes and goes between two pages moves none of the others. */
function cursorOf({ acceptedAt, id }: OperationSummary): string {
  return `${acceptedAt} ${id}`;
}

export function pageOfOperations(summaries: Iterable<OperationSummary>, query: OperationQuery): OperationPage {
  const { vm, state, after, limit } = query;
  const rows = [...summaries]
    .filter((row) => (vm === undefined || row.vm === vm) && (state === undefined || row.state === state))
    .map((row) => ({ row, cursor: cursorOf(row) }))
    .filter(({ cursor }) => after === undefined || cursor < after)
    .sort((a, b) => (a.cursor > b.cursor ? -1 : 1));
  const operations = rows.slice(0, limit).map(({ row }) => row);
  const last = rows[limit - 1];
  return rows.length > limit && last !== undefined ? { operations, next: last.cursor } : { operations };
}
