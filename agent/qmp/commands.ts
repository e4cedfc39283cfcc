/**
 * The commands that Fairlead itself gives, typed: one row each with the schemas of its arguments and of its result
 * (QEMU QMP reference). Tests check each row against recorded `query-qmp-schema` answers of the supported versions.
 *
 * Results take unknown members, since newer versions add some, and keep only what is named here. Values that QEMU may add to
 * (run states, migration states) are strings: an unknown one is for the caller to decide on, not a reason to fail.
 */
import * as v from 'valibot';
import { FairleadError } from '../../shared/errors.ts';
import { BLOCK_JOB_COMMANDS } from './block-job-commands.ts';
import { type CommandRow, Count, NoArguments, Nothing, row } from './command-row.ts';
import { DEVICE_COMMANDS } from './device-commands.ts';
import { MIGRATION_COMMANDS } from './migration-commands.ts';
import type { ExecuteOptions } from './options.ts';

const SchemaEntry = v.looseObject({ name: v.string(), 'meta-type': v.string() });

export const QMP_COMMANDS = {
  'query-status': row(NoArguments, v.object({ running: v.boolean(), status: v.string() })),
  'query-version': row(
    NoArguments,
    v.object({ qemu: v.object({ major: Count, minor: Count, micro: Count }), package: v.string() }),
  ),
  'query-name': row(NoArguments, v.object({ name: v.optional(v.string()) })),
  'query-uuid': row(NoArguments, v.object({ UUID: v.string() })),
  'query-kvm': row(NoArguments, v.object({ enabled: v.boolean(), present: v.boolean() })),
  'query-machines': row(
    NoArguments,
    v.array(
      v.object({
        name: v.string(),
        alias: v.optional(v.string()),
        'is-default': v.optional(v.boolean(), false),
        'cpu-max': Count,
        deprecated: v.boolean(),
      }),
    ),
  ),
  'query-cpus-fast': row(NoArguments, v.array(v.object({ 'cpu-index': Count, 'thread-id': Count, 'qom-path': v.string() }))),
  'query-qmp-schema': row(NoArguments, v.array(SchemaEntry)),
  'query-command-line-options': row(NoArguments, v.array(v.object({ option: v.string() }))),

  /** Success without an event on a VM that is paused already. */
  stop: row(NoArguments, Nothing),
  /** Success without an event on a VM that is running already. */
  cont: row(NoArguments, Nothing),
  system_reset: row(NoArguments, Nothing),
  /** Presses the ACPI button and returns: a guest whose driver is not up yet never hears of it. */
  system_powerdown: row(NoArguments, Nothing),
  /** The reply comes before QEMU flushes its disks and exits. */
  quit: row(NoArguments, Nothing),
  'set-action': row(
    v.strictObject({
      reboot: v.optional(v.picklist(['reset', 'shutdown'])),
      shutdown: v.optional(v.picklist(['poweroff', 'pause'])),
      panic: v.optional(v.picklist(['pause', 'shutdown', 'exit-failure', 'none'])),
    }),
    Nothing,
  ),

  ...DEVICE_COMMANDS,
  ...MIGRATION_COMMANDS,
  ...BLOCK_JOB_COMMANDS,
} as const satisfies Record<string, CommandRow>;

export type QmpCommandName = keyof typeof QMP_COMMANDS;
export type QmpArguments<Name extends QmpCommandName> = v.InferInput<(typeof QMP_COMMANDS)[Name]['args']>;
export type QmpResult<Name extends QmpCommandName> = v.InferOutput<(typeof QMP_COMMANDS)[Name]['result']>;

/** What a typed command needs of a session; `QmpClient` is one. */
export interface CommandRunner {
  execute(command: string, args?: object, options?: ExecuteOptions): Promise<unknown>;
}

/** @throws FairleadError what `execute` throws, and PROTOCOL_ERROR for a result that is not what the command promises. */
export async function runCommand<Name extends QmpCommandName>(
  runner: CommandRunner,
  name: Name,
  args?: QmpArguments<Name>,
  options?: ExecuteOptions,
): Promise<QmpResult<Name>> {
  const value = await runner.execute(name, args, options);
  const result = v.safeParse(QMP_COMMANDS[name].result, value, { abortEarly: true });
  if (result.success) return result.output;
  const issue = result.issues[0];
  const where = v.getDotPath(issue) ?? 'the whole';
  throw new FairleadError('PROTOCOL_ERROR', `QMP command '${name}' returned what it should not: ${where}: ${issue.message}`);
}
