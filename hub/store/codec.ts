/**
 * Values of one table as text, checked both ways: one record that cannot be read back would spoil every list.
 *
 * The text is JSON and the CRC-32 of where it belongs and of itself, for SQLite has no checksum of its own on what it keeps: a bit that has
 * turned over on the disk is an error, and never another value, nor the value of another record.
 *
 *     {"host":"edge-1", …}#1c291ca3
 */
import { crc32 } from 'node:zlib';
import * as v from 'valibot';
import { FairleadError } from '../../shared/errors.ts';

export interface Codec<T> {
  /**
   * `key` names the record within its table. The value comes back as it will be read again, for whoever asks: a log does not.
   * @throws FairleadError INTERNAL when the value is not what the table holds
   */
  encode(key: string, value: T): { readonly text: string; readonly value: T };
  /** @throws FairleadError INTERNAL when the record is damaged */
  decode(key: string, text: string): T;
}

/** The sum; a text of an earlier hub has none. */
const SUM = /#([0-9a-f]{8})$/;

export function codecOf<T>(table: string, schema: v.GenericSchema<unknown, T>): Codec<T> {
  return {
    encode: (key, value) => {
      const checked = v.safeParse(schema, value);
      if (checked.success) {
        const json = JSON.stringify(checked.output);
        return {
          text: sealed(table, key, json),
          get value() {
            // SAFETY: what the schema has let through once, it lets through again.
            return JSON.parse(json) as T;
          },
        };
      }
      throw new FairleadError('INTERNAL', `record ${key} of ${table} was not written: ${v.summarize(checked.issues)}`);
    },
    decode: (key, text) => {
      try {
        return v.parse(schema, JSON.parse(unsealed(table, key, text)));
      } catch (cause) {
        const message = `record ${key} of ${table} in the hub's store is damaged; restore the file from a backup`;
        throw new FairleadError('INTERNAL', message, { cause });
      }
    },
  };
}

/** As it stands in the table. */
function sealed(table: string, key: string, json: string): string {
  return `${json}#${sumOf(table, key, json)}`;
}

/** The JSON in it. @throws Error when it is not what was written there */
function unsealed(table: string, key: string, text: string): string {
  const sum = SUM.exec(text)?.[1];
  if (sum === undefined) return text;
  const json = text.slice(0, -sum.length - 1);
  if (sumOf(table, key, json) !== sum) throw new Error('its checksum is another');
  return json;
}

function sumOf(table: string, key: string, json: string): string {
  return crc32(`${table}\0${key}\0${json}`).toString(16).padStart(8, '0');
}
