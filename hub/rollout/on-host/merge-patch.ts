/** JSON merge patch (RFC 7396): null removes a member, an object goes into the object that is there, anything else replaces. */
import type { JsonObject, JsonValue } from '../../../shared/errors.ts';

export function mergePatch(target: JsonValue | undefined, patch: unknown): JsonValue {
  // SAFETY: a patch was read from JSON.
  if (!isObject(patch)) return patch as JsonValue;
  const merged: Record<string, JsonValue> = isObject(target) ? { ...(target as Record<string, JsonValue>) } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete merged[key];
    else merged[key] = mergePatch(merged[key], value);
  }
  return merged;
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
