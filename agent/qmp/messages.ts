/**
 * What a QMP server says (QMP specification, "Server Greeting" to "Asynchronous events"): one JSON value → one routed message.
 *
 * Only as much is looked at as routing needs. A `return` passes unchecked, since its shape is the command's affair (commands.ts);
 * unknown members are ignored, because newer servers add some.
 *
 * Integers beyond 2^53 lose their lowest bits, as everywhere in JSON.parse; no command that Fairlead uses returns one that matters.
 */
import * as v from 'valibot';
import { FairleadError } from '../../shared/errors.ts';

const Count = v.pipe(v.number(), v.integer(), v.minValue(0));

const Greeting = v.object({
  QMP: v.object({
    version: v.object({ qemu: v.object({ major: Count, minor: Count, micro: Count }), package: v.string() }),
    capabilities: v.array(v.string()),
  }),
});

/** Seconds and microseconds of the host's clock, both −1 when QEMU does not know. */
const EventTimestamp = v.object({ seconds: v.number(), microseconds: v.number() });

const Event = v.object({
  event: v.string(),
  data: v.optional(v.record(v.string(), v.unknown()), {}),
  timestamp: EventTimestamp,
});

const ErrorReply = v.object({
  error: v.object({ class: v.string(), desc: v.string() }),
});

export interface QmpGreeting {
  readonly version: { readonly major: number; readonly minor: number; readonly micro: number };
  /** What the server can be asked to enable; `oob` is the only one so far. */
  readonly capabilities: readonly string[];
  /** The distribution's name of the build; may be empty. */
  readonly package: string;
}

export interface QmpEvent {
  readonly name: string;
  readonly data: Readonly<Record<string, unknown>>;
  readonly timestamp: v.InferOutput<typeof EventTimestamp>;
}

/** The error object of a reply. `class` is for programs; `desc` is for people and never parsed. */
export type QmpErrorObject = v.InferOutput<typeof ErrorReply>['error'];

export type QmpMessage =
  | { readonly kind: 'return'; readonly id: unknown; readonly value: unknown }
  | { readonly kind: 'error'; readonly id: unknown; readonly error: QmpErrorObject }
  | { readonly kind: 'event'; readonly event: QmpEvent }
  | { readonly kind: 'greeting'; readonly greeting: QmpGreeting };

/** @throws FairleadError PROTOCOL_ERROR for a value that is none of the four. */
export function readMessage(value: unknown): QmpMessage {
  if (typeof value !== 'object' || value === null) throw malformed('a message', 'it is no object');
  if ('return' in value) return { kind: 'return', id: idOf(value), value: value.return };
  if ('event' in value) {
    const { event: name, data, timestamp } = check('an event', Event, value);
    return { kind: 'event', event: { name, data, timestamp } };
  }
  if ('error' in value) return { kind: 'error', id: idOf(value), error: check('an error', ErrorReply, value).error };
  if ('QMP' in value) {
    const { version, capabilities } = check('a greeting', Greeting, value).QMP;
    return { kind: 'greeting', greeting: { version: version.qemu, capabilities, package: version.package } };
  }
  throw malformed('a message', 'it is neither reply, event nor greeting');
}

function idOf(value: object): unknown {
  return 'id' in value ? value.id : undefined;
}

function check<Schema extends v.GenericSchema>(what: string, schema: Schema, value: unknown): v.InferOutput<Schema> {
  const result = v.safeParse(schema, value, { abortEarly: true });
  if (result.success) return result.output;
  const issue = result.issues[0];
  throw malformed(what, `${v.getDotPath(issue) ?? 'the whole'}: ${issue.message}`);
}

function malformed(what: string, why: string): FairleadError {
  return new FairleadError('PROTOCOL_ERROR', `the server sent ${what} that QMP does not know: ${why}`);
}
