/** What is known in memory of each command, and how it is read from the records: the newest revision counts. */
import type { Operation, OperationSummary } from '../../shared/protocol/methods-operation.ts';
import type { Place, StoredRecord } from './recovery.ts';

export interface Entry {
  summary: OperationSummary;
  revision: number;
  place: Place;
}

/** Codes of commands that did nothing. Those of a full journal go before their day is over. */
const REFUSALS: readonly string[] = [
  'INVALID_PARAMS',
  'NOT_FOUND',
  'PERMISSION_DENIED',
  'WRONG_STATE',
  'UNSUPPORTED',
  'LIMIT_EXCEEDED',
];

/** So that a caller who repeats a slip for ever leaves room for everybody else: whoever repeats one of these is refused again. */
export function forgetRefused(entries: Map<string, Entry>): void {
  for (const [id, { summary }] of entries) {
    if (summary.state === 'failed' && summary.code !== undefined && REFUSALS.includes(summary.code)) entries.delete(id);
  }
}

/** The record's revision, 0 for one of another kind. */
export function indexRecord(entries: Map<string, Entry>, { place, kind, value }: StoredRecord): number {
  if (kind !== 'operation') return 0;
  const { revision, operation } = value;
  if (typeof revision !== 'number') return 0;
  // SAFETY: what has its checksum was written by an agent, and is parsed whole before anybody gets it.
  const summary = summaryOf(operation as Operation);
  const known = entries.get(summary.id);
  if (known === undefined) entries.set(summary.id, { summary, revision, place });
  else if (revision >= known.revision) Object.assign(known, { summary, revision, place });
  return revision;
}

export function summaryOf({ id, method, vm, actor, state, acceptedAt, endedAt, error }: Operation): OperationSummary {
  return {
    id,
    method,
    state,
    acceptedAt,
    ...(vm === undefined ? {} : { vm }),
    ...(actor === undefined ? {} : { actor }),
    ...(endedAt === undefined ? {} : { endedAt }),
    ...(error === undefined ? {} : { code: error.code }),
  };
}
