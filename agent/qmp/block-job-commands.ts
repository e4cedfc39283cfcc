/** The commands of jobs on the images of disks (commands.ts says how the rows are used). */
import * as v from 'valibot';
import { type CommandRow, Count, NoArguments, Nothing, row } from './command-row.ts';

const Id = v.strictObject({ id: v.string() });

export const BLOCK_JOB_COMMANDS = {
  /** Copies into an image what it has below it, down to `base`, the name of a file; returns when it has begun, and JOB_STATUS_CHANGE tells of the rest. */
  'block-stream': row(
    v.strictObject({
      'job-id': v.string(),
      /** The node of the image. */
      device: v.string(),
      base: v.optional(v.string()),
      /** Bytes a second; 0 is as fast as it goes. */
      speed: v.optional(Count),
      /** Whether it goes by itself when it is over; otherwise it waits as `concluded`, with its error, to be dismissed. */
      'auto-dismiss': v.optional(v.boolean()),
    }),
    Nothing,
  ),
  'query-jobs': row(
    NoArguments,
    v.array(
      v.object({
        id: v.string(),
        type: v.string(),
        status: v.string(),
        'current-progress': Count,
        'total-progress': Count,
        error: v.optional(v.string()),
      }),
    ),
  ),
  /** Returns before it is over. */
  'job-cancel': row(Id, Nothing),
  'job-dismiss': row(Id, Nothing),
} as const satisfies Record<string, CommandRow>;
