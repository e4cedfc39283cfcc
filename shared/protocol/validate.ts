/** Validation of params and results by the method table. */
import * as v from 'valibot';
import { METHODS, type MethodName, methodContract, type Params, type Result } from './methods.ts';
import { appendKey, describeIssues, type FieldIssue, FIRST_OF_EACH_FIELD, invalidValue, isUnknownField } from './parse-with.ts';

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
  const parsed = v.safeParse(methodContract(method).result, result, FIRST_OF_EACH_FIELD);
  const issues = parsed.success ? [] : parsed.issues.filter((issue) => !isUnknownField(issue));
  if (issues.length > 0) throw invalidValue(describeIssues(issues, 'result'), 'PROTOCOL_ERROR', method);
  // SAFETY: the schema of M's result found nothing wrong but fields beyond those that it has.
  return (parsed.success ? parsed.output : result) as Result<M>;
}

/**
 * What the schemas let pass without a word and without effect: valibot takes a list for an object and leaves out record keys such as
 * `constructor`. Both would make a caller believe that something was set, so they are refused.
 */
function lostFields(input: unknown, output: unknown, path: string): FieldIssue[] {
  if (input === output || !isContainer(input) || !isContainer(output)) return [];
  if (Array.isArray(input) && !Array.isArray(output)) return [{ path, message: 'must be an object, not a list' }];
  const kept = new Map(Object.entries(output));
  return Object.entries(input).flatMap(([key, value]) => {
    const fieldPath = appendKey(path, Array.isArray(input) ? Number(key) : key);
    return kept.has(key)
      ? lostFields(value, kept.get(key), fieldPath)
      : [{ path: fieldPath, message: 'is not allowed as a name' }];
  });
}

function isContainer(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}
