/**
 * JSON-RPC 2.0 messages as text: what is accepted from the other side, and how ours are written.
 *
 * Narrower than the specification on purpose: params are by name only, no batch arrays (one slow member would hold up the others and
 * their deadlines), strings and whole numbers as ids, no unknown fields, and every message is bounded in bytes, depth and, for
 * requests, number of values, so that checking one costs little whoever sends it.
 */
import * as v from 'valibot';
import { FairleadError, type JsonObject, toFairleadError } from '../errors.ts';
import { parseWith } from '../protocol/parse-with.ts';
import type { WireError } from './wire-error.ts';

export type RequestId = string | number;

export interface Request {
  readonly kind: 'request';
  readonly id: RequestId;
  readonly method: string;
  readonly params: JsonObject;
}

export type Message =
  | Request
  | { readonly kind: 'notification'; readonly method: string; readonly params: JsonObject }
  | { readonly kind: 'result'; readonly id: RequestId; readonly result: unknown }
  /** `id` is null when the other side could not read which request it answers (JSON-RPC 2.0 §5). */
  | { readonly kind: 'error'; readonly id: RequestId | null; readonly error: WireError }
  /** Not usable. `request` is the id to answer to, when it was a request; `response` that of the call it meant to answer. */
  | { readonly kind: 'invalid'; readonly request?: RequestId; readonly response?: RequestId; readonly error: FairleadError };

/** Levels of nesting: the contract needs fewer than 10, raw QMP replies about as many. */
const MAX_DEPTH = 64;
/** Values in a request's params. A VM spec with every list full has about 1,500. */
const MAX_REQUEST_VALUES = 10_000;

const MAX_ID_LENGTH = 64;
const MAX_METHOD_LENGTH = 128;

const Id = v.union([v.pipe(v.string(), v.minLength(1), v.maxLength(MAX_ID_LENGTH)), v.pipe(v.number(), v.safeInteger())]);
const MethodText = v.pipe(v.string(), v.minLength(1), v.maxLength(MAX_METHOD_LENGTH));
const Version = v.literal('2.0');
const ByName = v.custom<JsonObject>(isJsonObject, 'must be an object (params by name)');

export const RequestEnvelope = v.strictObject({ jsonrpc: Version, id: Id, method: MethodText, params: v.optional(ByName, {}) });
export const NotificationEnvelope = v.strictObject({ jsonrpc: Version, method: MethodText, params: v.optional(ByName, {}) });
export const ResultEnvelope = v.strictObject({ jsonrpc: Version, id: Id, result: v.unknown() });
export const ErrorEnvelope = v.strictObject({
  jsonrpc: Version,
  id: v.nullable(Id),
  error: v.strictObject({ code: v.pipe(v.number(), v.safeInteger()), message: v.string(), data: v.optional(v.unknown()) }),
});

/** Read one message. Never throws: what is wrong with it is in the `invalid` answer. */
export function readMessage(text: string, maxBytes: number): Message {
  if (exceedsBytes(text, maxBytes)) {
    return invalid(new FairleadError('PROTOCOL_ERROR', `the message is longer than the ${maxBytes} bytes that one may have`));
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return invalid(new FairleadError('PARSE_ERROR', 'the message is no JSON', { cause: error }));
  }
  if (Array.isArray(value))
    return invalid(new FairleadError('INVALID_REQUEST', 'batch arrays are not taken; send one message each'));
  if (!isJsonObject(value)) return invalid(new FairleadError('INVALID_REQUEST', 'the message is no JSON-RPC object'));
  const isFlat = isSurelyBounded(text);
  return 'method' in value ? readCall(value, isFlat) : readResponse(value, isFlat);
}

/** A request or result with exactly the fields that ours have. Everything else goes through the schemas, which say what is wrong. */
function readUsual(value: JsonObject): Message | undefined {
  const { jsonrpc, id, method, params } = value;
  if (jsonrpc !== '2.0' || !isId(id)) return undefined;
  const fields = Object.keys(value).length;
  if (fields === 3 && Object.hasOwn(value, 'result')) return { kind: 'result', id, result: value['result'] };
  if (fields !== 4 || !isMethodText(method) || !isJsonObject(params)) return undefined;
  return { kind: 'request', id, method, params };
}

function readCall(value: JsonObject, isBounded: boolean): Message {
  const { id } = value;
  try {
    if (!isBounded) requireBounded(value, MAX_REQUEST_VALUES);
    const usual = readUsual(value);
    if (usual !== undefined) return usual;
    if (!('id' in value)) {
      const { method, params } = parseWith(NotificationEnvelope, value, 'notification', 'INVALID_REQUEST');
      return { kind: 'notification', method, params };
    }
    const { method, params } = parseWith(RequestEnvelope, value, 'request', 'INVALID_REQUEST');
    return { kind: 'request', id: parseWith(Id, value['id'], 'request.id', 'INVALID_REQUEST'), method, params };
  } catch (error) {
    return { kind: 'invalid', ...(isId(id) ? { request: id } : {}), error: toFairleadError(error) };
  }
}

function readResponse(value: JsonObject, isBounded: boolean): Message {
  const { id } = value;
  try {
    if (!isBounded) requireBounded(value, Number.POSITIVE_INFINITY);
    const usual = readUsual(value);
    if (usual !== undefined) return usual;
    if ('error' in value) {
      const response = parseWith(ErrorEnvelope, value, 'response', 'PROTOCOL_ERROR');
      return { kind: 'error', id: response.id, error: response.error };
    }
    const response = parseWith(ResultEnvelope, value, 'response', 'PROTOCOL_ERROR');
    return { kind: 'result', id: response.id, result: response.result };
  } catch (error) {
    return { kind: 'invalid', ...(isId(id) ? { response: id } : {}), error: toFairleadError(error) };
  }
}

export function writeRequest(id: RequestId, method: string, params: object): string {
  return JSON.stringify({ jsonrpc: '2.0', id, method, params });
}

export function writeNotification(method: string, params: object): string {
  return JSON.stringify({ jsonrpc: '2.0', method, params });
}

/** A result of undefined is written as null: JSON-RPC demands the field. */
export function writeResult(id: RequestId, result: unknown): string {
  return JSON.stringify({ jsonrpc: '2.0', id, result: result ?? null });
}

export function writeError(id: RequestId | null, error: WireError): string {
  return JSON.stringify({ jsonrpc: '2.0', id, error });
}

/** Whether the text takes more bytes as UTF-8; counts only when the length alone cannot tell. */
export function exceedsBytes(text: string, maxBytes: number): boolean {
  if (text.length > maxBytes) return true;
  if (text.length * 3 <= maxBytes) return false;
  return new TextEncoder().encode(text).length > maxBytes;
}

export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isId(value: unknown): value is RequestId {
  return typeof value === 'string' ? value !== '' && value.length <= MAX_ID_LENGTH : Number.isSafeInteger(value);
}

function isMethodText(value: unknown): value is string {
  return typeof value === 'string' && value !== '' && value.length <= MAX_METHOD_LENGTH;
}

function invalid(error: FairleadError): Message {
  return { kind: 'invalid', error };
}

/** Told from the text alone, as it can be of most: so few characters have no more values, so few brackets no more levels. */
function isSurelyBounded(text: string): boolean {
  if (text.length > MAX_REQUEST_VALUES) return false;
  let brackets = 0;
  for (const bracket of ['{', '[']) {
    for (let at = text.indexOf(bracket); at !== -1; at = text.indexOf(bracket, at + 1)) brackets += 1;
  }
  return brackets <= MAX_DEPTH;
}

/** Depth is bounded before anything recurses over the value: writing it again would otherwise overflow the stack. */
function requireBounded(value: JsonObject, maxValues: number): void {
  let left = maxValues;
  const visit = (child: unknown, depth: number): void => {
    if (typeof child !== 'object' || child === null) return;
    if (depth > MAX_DEPTH) throw new FairleadError('INVALID_REQUEST', `the message is nested more than ${MAX_DEPTH} levels deep`);
    for (const grandchild of Object.values(child)) {
      left -= 1;
      if (left < 0) throw new FairleadError('INVALID_REQUEST', `the message has more than ${maxValues} values`);
      visit(grandchild, depth + 1);
    }
  };
  visit(value, 1);
}
