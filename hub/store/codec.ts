/** Values of one table as text, checked both ways: one record that cannot be read back would spoil every list. */
import * as v from 'valibot';
import { FairleadError } from '../../shared/errors.ts';

export interface Codec<T> {
  /** @throws FairleadError INTERNAL when the value is not what the table holds */
  encode(key: string, value: T): string;
  /** @throws FairleadError INTERNAL when the record is damaged */
  decode(key: string, text: string): T;
}

export function codecOf<T>(table: string, schema: v.GenericSchema<unknown, T>): Codec<T> {
  return {
    encode: (key, value) => {
      const checked = v.safeParse(schema, value);
      if (checked.success) return JSON.stringify(checked.output);
      throw new FairleadError('INTERNAL', `record ${key} of ${table} was not written: ${v.summarize(checked.issues)}`);
    },
    decode: (key, text) => {
      try {
        return v.parse(schema, JSON.parse(text));
      } catch (cause) {
        const message = `record ${key} of ${table} in the hub's store is damaged; restore the file from a backup`;
        throw new FairleadError('INTERNAL', message, { cause });
      }
    },
  };
}
