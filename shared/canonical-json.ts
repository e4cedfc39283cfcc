/**
 * One text for one JSON value, whoever wrote it and in whatever order: keys sorted by UTF-16 code units, no white space, numbers as
 * ECMAScript writes them (RFC 8785). For digests.
 */
import type { JsonValue } from './errors.ts';

export function canonicalJson(value: JsonValue): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const members = Object.entries(value)
    .filter((member): member is [string, JsonValue] => member[1] !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${members.map(([key, member]) => `${JSON.stringify(key)}:${canonicalJson(member)}`).join(',')}}`;
}
