/** Validation of params, results and notifications by their tables. */
import * as v from 'valibot';
import { METHODS, type MethodName, methodContract, type Params, type Result } from './methods.ts';
import { NOTIFICATIONS, type NotificationName, type NotificationParams } from './notifications.ts';
import { appendKey, describeIssues, FIRST_OF_EACH_FIELD, type FieldIssue, invalidValue, isUnknownField } from './parse-with.ts';

export { parseWith } from './parse-with.ts';

/** Params with every default filled in, or INVALID_PARAMS that names each offending field. Throws for nothing else. */
export function parseParams<M extends MethodName>(method: M, params: unknown): Params<M> {
  const parsed = v.safeParse(METHODS[method].params, params, FIRST_OF_EACH_FIELD);
  const issues = parsed.success ? lostFields(params, parsed.output, 'params') : describeIssues(parsed.issues, 'params');
  if (issues.length > 0) throw invalidValue(issues, 'INVALID_PARAMS', method);
  // SAFETY: METHODS[method].params parsed it; TypeScript does not carry M through the union of all rows.
  return parsed.output as Params<M>;
}

/**
 * A result as the caller may use it, or PROTOCOL_ERROR. Fields that this side does not know are let through: a newer peer may add
 * some to a result, while params with unknown fields are always refused.
 */
export function parseResult<M extends MethodName>(method: M, result: unknown): Result<M> {
  // SAFETY: parsed by the schema of M's result.
  return parseOpenEnded(methodContract(method).result, result, 'result', method) as Result<M>;
}

/** What a notification says, or PROTOCOL_ERROR; unknown fields are let through, as in results. */
export function parseNotification<N extends NotificationName>(name: N, params: unknown): NotificationParams<N> {
  // SAFETY: parsed by the schema of N's params.
  return parseOpenEnded(NOTIFICATIONS[name].params, params, 'params', name) as NotificationParams<N>;
}

function parseOpenEnded(schema: v.GenericSchema, value: unknown, what: string, subject: string): unknown {
  const parsed = v.safeParse(schema, value, FIRST_OF_EACH_FIELD);
  if (parsed.success) return parsed.output;
  const issues = parsed.issues.filter((issue) => !isUnknownField(issue));
  if (issues.length > 0) throw invalidValue(describeIssues(issues, what), 'PROTOCOL_ERROR', subject);
  return value;
}

/**
 * What the schemas let pass without a word and without effect: valibot takes a list for an object and leaves out record keys such as
 * `constructor`. Both would make a caller believe that something was set, so they are refused.
 */
function lostFields(input: unknown, output: unknown, path: string): FieldIssue[] {
  if (input === output || !isContainer(input) || !isContainer(output)) return NONE;
  if (Array.isArray(input) && !Array.isArray(output)) return [{ path, message: 'must be an object, not a list' }];
  let lost: FieldIssue[] = NONE;
  for (const key of Object.keys(input)) {
    const isKept = Object.hasOwn(output, key);
    // SAFETY: both are objects of JSON, and the key is the input's own.
    const value = (input as Record<string, unknown>)[key];
    if (isKept && !isContainer(value)) continue;
    const fieldPath = appendKey(path, Array.isArray(input) ? Number(key) : key);
    const more = isKept
      ? lostFields(value, (output as Record<string, unknown>)[key], fieldPath)
      : [{ path: fieldPath, message: 'is not allowed as a name' }];
    lost = [...lost, ...more];
  }
  return lost;
}

const NONE: FieldIssue[] = [];

function isContainer(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}
