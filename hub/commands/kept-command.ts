/** A command as the store has it, and how it changes. Pure: times are given. */
import * as v from 'valibot';
import { canonicalJson } from '../../shared/canonical-json.ts';
import { FairleadError, type JsonObject, toFairleadError } from '../../shared/errors.ts';
import { sha256 } from '../../shared/node/host-key.ts';
import { Count, Name } from '../../shared/protocol/common.ts';
import { isErrorCode } from '../../shared/protocol/error-table.ts';
import { CommandFailure, type CommandRecord, CommandState, WhenOffline } from '../../shared/protocol/methods-command.ts';
import { CommandId } from '../../shared/protocol/methods-operation.ts';
import { redactSecrets } from '../../shared/redact.ts';
import { defineCollection } from '../store/store.ts';

const MAX_RESULT_BYTES = 16 * 1024;
const MAX_DETAILS_BYTES = 16 * 1024;
const MAX_SHOWN_PARAMS = 2000;

export const KeptCommand = v.strictObject({
  id: CommandId,
  host: Name,
  method: v.string(),
  vm: v.optional(Name),
  actor: v.string(),
  whenOffline: WhenOffline,
  state: CommandState,
  createdAtMs: Count,
  expiresAtMs: v.optional(Count),
  endedAtMs: v.optional(Count),
  sends: Count,
  error: v.optional(CommandFailure),
  result: v.optional(v.unknown()),
  shownParams: v.string(),
  paramsDigest: v.string(),
  /** As they are to be sent; gone once the command has ended, for there may be secrets among them. */
  params: v.optional(v.record(v.string(), v.unknown())),
});
export type KeptCommand = v.InferOutput<typeof KeptCommand>;

export const COMMANDS = defineCollection('commands', KeptCommand);

export interface NewCommand {
  readonly id: string;
  readonly host: string;
  readonly method: string;
  readonly params: JsonObject;
  readonly actor: string;
  readonly whenOffline: WhenOffline;
  /** Undefined for no end. */
  readonly timeoutMs: number | undefined;
}

export type Outcome = { readonly result: unknown } | { readonly error: unknown };

/** `sent`: it is on its way as soon as this is durable. */
export function keptCommand(command: NewCommand, state: 'queued' | 'sent', nowMs: number): KeptCommand {
  const { id, host, method, params, actor, whenOffline, timeoutMs } = command;
  const { vm, spec } = params;
  const named = typeof spec === 'object' && spec !== null && 'name' in spec ? spec['name'] : vm;
  return {
    id,
    host,
    method,
    ...(typeof named === 'string' ? { vm: named } : {}),
    actor,
    whenOffline,
    state,
    createdAtMs: nowMs,
    ...(timeoutMs === undefined ? {} : { expiresAtMs: nowMs + Math.ceil(timeoutMs) }),
    sends: state === 'sent' ? 1 : 0,
    shownParams: JSON.stringify(params, redactSecrets).slice(0, MAX_SHOWN_PARAMS),
    paramsDigest: digestOf(params),
    params,
  };
}

export function endedCommand(command: KeptCommand, outcome: Outcome, nowMs: number): KeptCommand {
  const { params: _, ...rest } = command;
  const ended = { ...rest, endedAtMs: nowMs };
  if (!('error' in outcome)) return { ...ended, state: 'done', ...boundedResult(outcome.result) };
  const error = boundedError(toFairleadError(outcome.error));
  // It was done, and its answer was too long for the host's journal.
  if (error.code === 'RESULT_NOT_KEPT') return { ...ended, state: 'done' };
  return { ...ended, state: error.code === 'OUTCOME_UNKNOWN' ? 'unknown' : 'failed', error };
}

export function hasEnded({ state }: Pick<KeptCommand, 'state'>): boolean {
  return state === 'done' || state === 'failed' || state === 'unknown';
}

/** What a repeat of a command that is done may be told; undefined where only the host knows. */
export function keptAnswer({ state, result }: KeptCommand): { readonly result: unknown } | undefined {
  return state === 'done' && result !== undefined ? { result } : undefined;
}

/** @throws FairleadError CONFLICT: one id for two commands */
export function requireSameCommand(
  known: KeptCommand,
  { host, method, params }: Pick<NewCommand, 'host' | 'method' | 'params'>,
): void {
  if (known.host === host && known.method === method && known.paramsDigest === digestOf(params)) return;
  throw new FairleadError(
    'CONFLICT',
    `command id ${known.id} was given to ${known.method} on host ${known.host}, and now to another command (${method} on host ${host}): give each an id of its own`,
    { details: { method: known.method, host: known.host } },
  );
}

export function errorOf({ error }: KeptCommand): FairleadError {
  const { code, message, details } = error ?? { code: 'INTERNAL', message: 'its error is not known' };
  // SAFETY: it is out of JSON.parse.
  return new FairleadError(isErrorCode(code) ? code : 'INTERNAL', message, { details: details as JsonObject | undefined });
}

export function commandRecord(command: KeptCommand): CommandRecord {
  const { createdAtMs, expiresAtMs, endedAtMs, shownParams, paramsDigest: _, params: __, ...same } = command;
  return {
    ...same,
    createdAt: time(createdAtMs),
    ...(expiresAtMs === undefined ? {} : { expiresAt: time(expiresAtMs) }),
    ...(endedAtMs === undefined ? {} : { endedAt: time(endedAtMs) }),
    params: shownParams,
  };
}

function digestOf(params: JsonObject): string {
  return Buffer.from(sha256(canonicalJson(params))).toString('hex');
}

function time(ms: number): string {
  return new Date(ms).toISOString();
}

function boundedResult(result: unknown): { result?: unknown } {
  const bytes = Buffer.byteLength(JSON.stringify(result) ?? 'null');
  return bytes > MAX_RESULT_BYTES ? {} : { result };
}

function boundedError({ code, message, details }: FairleadError): NonNullable<KeptCommand['error']> {
  const short = { code, message: message.slice(0, 4000) };
  if (details === undefined || JSON.stringify(details).length > MAX_DETAILS_BYTES) return short;
  return { ...short, details };
}
