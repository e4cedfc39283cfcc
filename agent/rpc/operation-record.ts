/** An operation's record at its three moments: accepted, ended, found again after a crash. Pure: times and VMs are given. */
import { createHash } from 'node:crypto';
import { canonicalJson } from '../../shared/canonical-json.ts';
import { FairleadError, type JsonObject, type JsonValue, toFairleadError } from '../../shared/errors.ts';
import { isErrorCode } from '../../shared/protocol/error-table.ts';
import type { Operation } from '../../shared/protocol/methods-operation.ts';
import { redactSecrets } from '../../shared/redact.ts';

const MAX_PARAMS_CHARACTERS = 16 * 1024;
const MAX_RESULT_BYTES = 64 * 1024;
const MAX_ERROR_CHARACTERS = 32 * 1024;
const MAX_MESSAGE_CHARACTERS = 4 * 1024;

export type VmBrief = NonNullable<Operation['before']>;

export interface Command {
  readonly id: string;
  readonly method: string;
  readonly params: JsonObject;
  readonly paramsDigest: string;
  readonly actor: string | undefined;
}

/** How a command ended, as whoever gave it is told. */
export type Outcome = { readonly result: unknown } | { readonly error: unknown };

/** What was found of a command that a crash interrupted. */
export type Reconciliation =
  | { readonly outcome: 'done'; readonly reason: string; readonly result: unknown }
  /** It has come to its end, which was a failure. */
  | { readonly outcome: 'done'; readonly reason: string; readonly error: FairleadError }
  | { readonly outcome: 'not-done' | 'unknown'; readonly reason: string };

export function digestOf(value: JsonValue): string {
  return createHash('sha256').update(canonicalJson(value)).digest('hex');
}

export function acceptedOperation(
  { id, method, params, paramsDigest, actor }: Command,
  about: { host: string; at: string; attempts: number; vm: string | undefined; before: VmBrief | undefined },
): Operation {
  const { host, at, attempts, vm, before } = about;
  const text = JSON.stringify(params, redactSecrets);
  return {
    id,
    method,
    host,
    state: 'accepted',
    acceptedAt: at,
    paramsDigest,
    attempts,
    ...(vm === undefined ? {} : { vm }),
    ...(actor === undefined ? {} : { actor }),
    ...(before === undefined ? {} : { before }),
    ...(text.length > MAX_PARAMS_CHARACTERS ? {} : { params: JSON.parse(text) }),
  };
}

export function endedOperation(
  accepted: Operation,
  outcome: Outcome,
  { at, after }: { at: string; after: VmBrief | undefined },
): Operation {
  const ended = { ...accepted, endedAt: at, ...(after === undefined ? {} : { after }) };
  return 'error' in outcome
    ? { ...ended, state: 'failed', error: boundedError(toFairleadError(outcome.error)) }
    : { ...ended, state: 'done', ...boundedResult(outcome.result) };
}

export function reconciledOperation(
  interrupted: Operation,
  found: Reconciliation,
  about: { at: string; after: VmBrief | undefined },
): Operation {
  const { outcome, reason } = found;
  const reconciled = { outcome, reason, at: about.at };
  if (found.outcome === 'done') return { ...endedOperation(interrupted, found, about), reconciled };
  const error = notDoneOrUnknown(interrupted, found.outcome, reason);
  return { ...endedOperation(interrupted, { error }, about), state: outcome === 'unknown' ? 'unknown' : 'failed', reconciled };
}

/** What a repeat is told; undefined when the command may run once more. */
export function answerOf(operation: Operation): Outcome | undefined {
  const { state, reconciled, error, result, resultOmitted, id, method } = operation;
  if (state === 'unknown' || state === 'failed') {
    if (reconciled?.outcome === 'not-done') return undefined;
    const { code, message, details } = error ?? { code: 'INTERNAL', message: 'its error is not known' };
    // SAFETY: it is out of JSON.parse.
    const json = details as JsonObject | undefined;
    return { error: new FairleadError(isErrorCode(code) ? code : 'INTERNAL', message, { details: json }) };
  }
  if (resultOmitted === undefined) return { result };
  const message = `${method} was done by command ${id} before, and its result of ${resultOmitted.bytes} bytes was not kept`;
  return { error: new FairleadError('RESULT_NOT_KEPT', `${message}: ask for the state instead`, { details: resultOmitted }) };
}

function notDoneOrUnknown({ id, method }: Operation, outcome: 'not-done' | 'unknown', reason: string): FairleadError {
  const when = `the agent ended while ${method} (command ${id}) was under way`;
  return outcome === 'not-done'
    ? new FairleadError('INTERRUPTED', `${when}, and it was not done: ${reason}; the same command may be sent again`)
    : new FairleadError(
        'OUTCOME_UNKNOWN',
        `${when}, and whether it was done cannot be told: ${reason}; look, and send it with a new command id if it is still wanted`,
      );
}

function boundedError({ code, message, details }: FairleadError): NonNullable<Operation['error']> {
  const short = { code, message: message.slice(0, MAX_MESSAGE_CHARACTERS) };
  if (details === undefined || JSON.stringify(details).length > MAX_ERROR_CHARACTERS) return short;
  return { ...short, details };
}

function boundedResult(result: unknown): Pick<Operation, 'result' | 'resultOmitted'> {
  const text = JSON.stringify(result) ?? 'null';
  const bytes = Buffer.byteLength(text);
  if (bytes <= MAX_RESULT_BYTES) return { result };
  return { resultOmitted: { bytes, digest: createHash('sha256').update(text).digest('hex') } };
}
