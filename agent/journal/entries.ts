/** What is known in memory of each command, and how it is read from the records: the newest revision counts. */
import { isDeepStrictEqual } from 'node:util';
import { timeOfCommandId } from '../../shared/command-id.ts';
import type { Operation, OperationSummary } from '../../shared/protocol/methods-operation.ts';
import type { Place, StoredRecord } from './recovery.ts';

export interface Entry {
  summary: OperationSummary;
  /** It did nothing. */
  isRefusal: boolean;
  /** Its id is of a time that had not come yet on this host. */
  isAhead: boolean;
  revision: number;
  place: Place;
}

/** Codes of refusals, where the VM has stayed as it was: what runs in it may end by one of these, too, when the VM does. */
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
  for (const [id, { isRefusal }] of entries) if (isRefusal) entries.delete(id);
}

/** The record's revision, 0 for one of another kind. */
export function indexRecord(entries: Map<string, Entry>, { place, kind, value }: StoredRecord): number {
  if (kind !== 'operation') return 0;
  const { revision, operation } = value;
  if (typeof revision !== 'number') return 0;
  // SAFETY: what has its checksum was written by an agent, and is parsed whole before anybody gets it.
  const entry = entryOf(operation as Operation, revision, place);
  const { id } = entry.summary;
  const known = entries.get(id);
  if (known === undefined) entries.set(id, entry);
  else if (revision >= known.revision) Object.assign(known, entry);
  return revision;
}

export function entryOf(operation: Operation, revision: number, place: Place): Entry {
  const { state, error, before, after } = operation;
  const isRefusal = state === 'failed' && REFUSALS.includes(error?.code ?? '') && isDeepStrictEqual(before, after);
  return { summary: summaryOf(operation), isRefusal, isAhead: isAhead(operation), revision, place };
}

/** How far the clock that a command id was made by may go before this host's without being noticed. */
const AHEAD_MS = 60_000;

export function isAhead({ id, acceptedAt }: Pick<Operation, 'id' | 'acceptedAt'>): boolean {
  return (timeOfCommandId(id) ?? 0) > Date.parse(acceptedAt) + AHEAD_MS;
}

function summaryOf({ id, method, vm, actor, state, acceptedAt, endedAt, error }: Operation): OperationSummary {
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
