/**
 * Command ids as Fairlead makes them: UUIDs of version 7 (RFC 9562 §5.7), which begin with the time in milliseconds. So they sort by
 * age, and an agent that has lost a stretch of its journal can tell the commands of that time from those that are new.
 */
import { FairleadError, toFairleadError } from './errors.ts';

const RANDOM_BYTES = 10;
const UUID_7 = /^([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

/** `nowMs` in unix milliseconds. */
export function newCommandId(nowMs: number = Date.now()): string {
  const time = Math.floor(nowMs).toString(16).padStart(12, '0');
  const random = crypto.getRandomValues(new Uint8Array(RANDOM_BYTES));
  const hex = Array.from(random, (byte) => byte.toString(16).padStart(2, '0')).join('');
  const variant = '89ab'[Number.parseInt(hex.slice(3, 4), 16) & 3];
  return `${time.slice(0, 8)}-${time.slice(8)}-7${hex.slice(0, 3)}-${variant}${hex.slice(4, 7)}-${hex.slice(7, 19)}`;
}

/** When it was made, unix milliseconds; undefined for an id of another form, whose age nobody knows. */
export function timeOfCommandId(id: string): number | undefined {
  const match = UUID_7.exec(id);
  return match === null ? undefined : Number.parseInt(`${match[1]}${match[2]}`, 16);
}

/** So that whoever is told of a failure can ask for the record. A fault of ours stays as it is: its cause is to be logged. */
export function withCommandId(error: unknown, commandId: string): unknown {
  const { code, message, details, cause } = toFairleadError(error);
  if (code === 'INTERNAL') return error;
  return new FairleadError(code, message, { details: { ...details, commandId }, cause });
}
