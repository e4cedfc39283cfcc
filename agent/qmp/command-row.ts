/** The shape of one row of the table of QMP commands (commands.ts). */
import * as v from 'valibot';

export interface CommandRow {
  readonly args: v.GenericSchema;
  readonly result: v.GenericSchema;
}

export const Count = v.pipe(v.number(), v.integer(), v.minValue(0));
export const NoArguments = v.strictObject({});
/** The result of a command that only succeeds or fails. */
export const Nothing = v.object({});

export function row<const Args extends v.GenericSchema, const Result extends v.GenericSchema>(args: Args, result: Result) {
  return { args, result };
}
