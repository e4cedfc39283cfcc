/**
 * Checks a value from outside against a schema and says what is wrong with it in words.
 *
 * The error names the path of each offending field from `what` on (`params.spec.memory.bytes: must be at least 16MiB`) and never
 * repeats a value, which may be long, secret or made to confuse a terminal. `details.issues` has the same for programs.
 */
import * as v from 'valibot';
import { FairleadError } from '../errors.ts';
import { printable } from '../printable.ts';
import type { ErrorCode } from './error-table.ts';

/** An offending field. */
export interface FieldIssue {
  readonly path: string;
  readonly message: string;
}

/** The rules of one field are tried in order and the first broken one is told: the later ones mostly follow from it. */
export const FIRST_OF_EACH_FIELD = { abortPipeEarly: true } as const;

const MAX_ISSUES = 10;
const MAX_KEY_LENGTH = 64;

type Issue = v.BaseIssue<unknown>;

/** The schema's output, or a FairleadError of `code`. `what` names the value and starts each path. */
export function parseWith<S extends v.GenericSchema>(
  schema: S,
  value: unknown,
  what: string,
  code: ErrorCode = 'INVALID_PARAMS',
): v.InferOutput<S> {
  const parsed = v.safeParse(schema, value, FIRST_OF_EACH_FIELD);
  if (parsed.success) return parsed.output;
  throw invalidValue(describeIssues(parsed.issues, what), code);
}

/** The error for fields that are wrong; `subject` (a method, a file) is put before them. */
export function invalidValue(issues: readonly FieldIssue[], code: ErrorCode = 'INVALID_PARAMS', subject?: string): FairleadError {
  const shown = issues.slice(0, MAX_ISSUES);
  const more = issues.length > shown.length ? `; and ${issues.length - shown.length} more` : '';
  const text = shown.map(({ path, message }) => `${path}: ${message}`).join('; ');
  return new FairleadError(code, `${subject === undefined ? '' : `${subject}: `}${text}${more}`, {
    details: { issues: shown.map(({ path, message }) => ({ path, message })) },
  });
}

export function describeIssues(issues: readonly Issue[], what: string): FieldIssue[] {
  return issues.flatMap((issue) => describe(issue, what));
}

function describe(issue: Issue, prefix: string): FieldIssue[] {
  const path = (issue.path ?? []).reduce((text, item) => appendKey(text, item.key), prefix);
  const alternatives = issue.type === 'union' ? nearest(issue.issues ?? []) : [];
  if (alternatives.length > 0) return alternatives.flatMap((nested) => describe(nested, path));
  return [{ path, message: phrase(issue) }];
}

/** Of the reasons why no alternative of a union fits, those that got furthest into the value: they are about what was meant. */
function nearest(issues: readonly Issue[]): readonly Issue[] {
  const depth = (issue: Issue): number => (issue.path?.length ?? 0) - (isUnknownField(issue) ? 0.5 : 0);
  const deepest = Math.max(0, ...issues.map(depth));
  return deepest === 0 ? [] : issues.filter((issue) => depth(issue) === deepest);
}

/** `a.b`, `a[0]`, `a["odd key"]`; keys come from outside, so they are quoted and cut. */
export function appendKey(path: string, key: unknown): string {
  if (typeof key === 'number') return `${path}[${key}]`;
  const text = String(key);
  if (/^[A-Za-z_$][\w$]*$/.test(text) && text.length <= MAX_KEY_LENGTH) return `${path}.${text}`;
  return `${path}[${printable(JSON.stringify(text.length > MAX_KEY_LENGTH ? `${text.slice(0, MAX_KEY_LENGTH)}…` : text))}]`;
}

export function isUnknownField(issue: Issue): boolean {
  return issue.type === 'strict_object' && issue.expected === 'never';
}

/** Texts that the schemas give are taken as they are; valibot's own repeat the value and are replaced. */
function phrase(issue: Issue): string {
  if (isUnknownField(issue)) return 'is not a known field';
  if (issue.received === 'undefined') return 'is required';
  if (!issue.message.startsWith('Invalid ')) return issue.message;
  if (issue.kind !== 'schema') return rule(issue);
  const isChoice = issue.type === 'picklist' || issue.type === 'literal' || issue.type === 'variant';
  return `must be ${expectation(issue)}${isChoice ? '' : `, not ${kindOf(issue.input)}`}`;
}

function expectation(issue: Issue): string {
  const expected = issue.expected ?? issue.type;
  if (expected.startsWith('(')) return `one of ${expected.slice(1, -1).replaceAll(' | ', ', ')}`;
  return { Object: 'an object', Array: 'a list' }[expected] ?? (expected.startsWith('"') ? expected : `a ${expected}`);
}

function rule(issue: Issue): string {
  // SAFETY: validation issues of valibot carry their action's requirement; BaseIssue types it as unknown, and so is it used here.
  const { requirement } = issue as { readonly requirement?: unknown };
  const unit = Array.isArray(issue.input) ? 'entries' : 'characters';
  switch (issue.type) {
    case 'min_value':
      return `must be at least ${String(requirement)}`;
    case 'max_value':
      return `must be at most ${String(requirement)}`;
    case 'min_length':
      return requirement === 1 ? 'must not be empty' : `must have at least ${String(requirement)} ${unit}`;
    case 'max_length':
      return `must have at most ${String(requirement)} ${unit}`;
    case 'length':
      return `must have exactly ${String(requirement)} ${unit}`;
    case 'max_entries':
      return `must have at most ${String(requirement)} entries`;
    case 'integer':
    case 'safe_integer':
      return 'must be a whole number';
    case 'finite':
      return 'must be a finite number';
    case 'iso_timestamp':
      return 'must be a timestamp such as 2026-01-31T12:00:00.000Z';
    case 'regex':
      return `must match ${String(requirement)}`;
    default:
      return `is not a valid ${issue.type.replaceAll('_', ' ')}`;
  }
}

function kindOf(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'string') return 'text';
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`;
}
