/**
 * The commands that Fairlead gives QEMU's guest agent, typed: one row each with the schemas of its arguments and of its answer (QEMU Guest
 * Agent Protocol Reference). What answers is software in a guest, so every answer is checked, and every string and list bounded, before
 * anything is made of it.
 */
import * as v from 'valibot';

const Count = v.pipe(v.number(), v.integer(), v.minValue(0));
const Text = v.pipe(v.string(), v.maxLength(256));
const Base64 = v.pipe(v.string(), v.regex(/^[A-Za-z0-9+/]*={0,2}$/, 'must be base64'));
const NoArguments = v.strictObject({});
const Nothing = v.object({});
const Handle = v.strictObject({ handle: Count });
const MAX_COMMANDS = 256;
const MAX_INTERFACES = 64;
const MAX_ADDRESSES = 64;

export const GUEST_COMMANDS = {
  'guest-ping': row(NoArguments, Nothing),
  'guest-info': row(
    NoArguments,
    v.object({
      version: Text,
      supported_commands: v.pipe(v.array(v.object({ name: Text, enabled: v.boolean() })), v.maxLength(MAX_COMMANDS)),
    }),
  ),
  'guest-get-host-name': row(NoArguments, v.object({ 'host-name': Text })),
  'guest-get-osinfo': row(
    NoArguments,
    v.object({
      id: v.optional(Text),
      'pretty-name': v.optional(Text),
      'version-id': v.optional(Text),
      'kernel-release': v.optional(Text),
      machine: v.optional(Text),
    }),
  ),
  'guest-network-get-interfaces': row(
    NoArguments,
    v.pipe(
      v.array(
        v.object({
          name: Text,
          'hardware-address': v.optional(Text),
          'ip-addresses': v.optional(
            v.pipe(v.array(v.object({ 'ip-address': Text, prefix: Count })), v.maxLength(MAX_ADDRESSES)),
            [],
          ),
        }),
      ),
      v.maxLength(MAX_INTERFACES),
    ),
  ),
  'guest-exec': row(
    v.strictObject({
      path: v.string(),
      arg: v.array(v.string()),
      env: v.optional(v.array(v.string())),
      'input-data': v.optional(Base64),
      'capture-output': v.boolean(),
    }),
    v.object({ pid: Count }),
  ),
  /** The agent forgets a process once it has told its end. */
  'guest-exec-status': row(
    v.strictObject({ pid: Count }),
    v.object({
      exited: v.boolean(),
      exitcode: v.optional(v.pipe(v.number(), v.integer())),
      /** On Windows the number of an unhandled exception, which may have its highest bit set. */
      signal: v.optional(v.pipe(v.number(), v.integer())),
      'out-data': v.optional(v.string()),
      'err-data': v.optional(v.string()),
    }),
  ),
  /** Answers with a handle, which is open until it is closed or the agent ends. */
  'guest-file-open': row(v.strictObject({ path: v.string(), mode: v.picklist(['rb', 'wb']) }), Count),
  'guest-file-close': row(Handle, Nothing),
  'guest-file-read': row(
    v.strictObject({ ...Handle.entries, count: Count }),
    v.object({ count: Count, 'buf-b64': Base64, eof: v.boolean() }),
  ),
  'guest-file-write': row(v.strictObject({ ...Handle.entries, 'buf-b64': Base64 }), v.object({ count: Count, eof: v.boolean() })),
  'guest-file-seek': row(
    v.strictObject({ ...Handle.entries, offset: Count, whence: v.picklist(['set', 'end']) }),
    v.object({ position: v.number(), eof: v.boolean() }),
  ),
  'guest-file-flush': row(Handle, Nothing),
  'guest-fsfreeze-status': row(NoArguments, v.picklist(['thawed', 'frozen'])),
  /** Answers with the number of file systems. */
  'guest-fsfreeze-freeze': row(NoArguments, Count),
  'guest-fsfreeze-thaw': row(NoArguments, Count),
  /** Nanoseconds since 1970; without, the guest's clock is set from its hardware clock. */
  'guest-set-time': row(v.strictObject({ time: v.pipe(v.number(), v.integer()) }), Nothing),
  /** Answers only when it cannot. */
  'guest-shutdown': row(v.strictObject({ mode: v.picklist(['powerdown', 'reboot', 'halt']) }), Nothing),
} as const satisfies Record<string, CommandRow>;

interface CommandRow {
  readonly args: v.GenericSchema;
  readonly result: v.GenericSchema;
}

export type GuestCommandName = keyof typeof GUEST_COMMANDS;
export type GuestArguments<Name extends GuestCommandName> = v.InferInput<(typeof GUEST_COMMANDS)[Name]['args']>;
export type GuestResult<Name extends GuestCommandName> = v.InferOutput<(typeof GUEST_COMMANDS)[Name]['result']>;

/** What the agent answers to any command. */
export const GuestReply = v.union([
  v.object({ error: v.object({ class: v.string(), desc: v.string() }) }),
  v.object({ return: v.unknown() }),
]);

function row<const Args extends v.GenericSchema, const Result extends v.GenericSchema>(args: Args, result: Result) {
  return { args, result };
}
