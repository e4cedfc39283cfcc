/** Methods that are carried out inside a guest, by its QEMU guest agent. */
import * as v from 'valibot';
import { Count, Name, Timestamp } from './common.ts';
import type { MethodContract } from './contract.ts';
import { VmState } from './vm.ts';

const HOUR_MS = 3600 * 1000;
/** What goes in and comes out of a command fits one message, in base64 too. */
export const MAX_EXEC_BYTES = 64 * 1024;
const MAX_WORD_LENGTH = 32 * 1024;

const Word = v.pipe(v.string(), v.maxLength(MAX_WORD_LENGTH), v.regex(/^[^\0]*$/, 'must not contain a NUL character'));
const Variable = v.pipe(v.string(), v.minLength(1), v.maxLength(255), v.regex(/^[^=\0]+$/, 'must not contain = or NUL'));
const Milliseconds = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(24 * HOUR_MS));

/** How long a guest agent that does not answer is tried again: one that starts meanwhile is heard. */
export const answerTimeoutMs = v.optional(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(600_000)), 10_000);

const agentCall = { target: 'agent', kind: 'call', since: 1 } as const;
export const UNANSWERED = [
  'NOT_FOUND',
  'WRONG_STATE',
  'GUEST_UNREACHABLE',
  'GUEST_FAILED',
  'UNSUPPORTED',
  'PROTOCOL_ERROR',
] as const;

export const GUEST_METHODS = {
  'guest.ping': {
    ...agentCall,
    role: 'viewer',
    idempotent: true,
    summary: "Ask the guest's agent for a sign of life",
    params: v.strictObject({ vm: Name, answerTimeoutMs }),
    result: v.strictObject({ roundTripMs: v.number() }),
    errors: UNANSWERED,
  },
  'guest.info': {
    ...agentCall,
    role: 'viewer',
    idempotent: true,
    summary: "What the guest's agent says of itself and of its system",
    params: v.strictObject({ vm: Name, answerTimeoutMs }),
    result: v.strictObject({
      agentVersion: v.string(),
      /** Commands of the guest agent that it offers, by name. */
      commands: v.array(v.string()),
      hostname: v.optional(v.string()),
      os: v.optional(
        v.strictObject({
          id: v.optional(v.string()),
          name: v.optional(v.string()),
          version: v.optional(v.string()),
          kernel: v.optional(v.string()),
          machine: v.optional(v.string()),
        }),
      ),
      networks: v.optional(
        v.array(
          v.strictObject({
            name: v.string(),
            mac: v.optional(v.string()),
            /** With the length of the prefix: `10.0.2.15/24`. */
            addresses: v.array(v.string()),
          }),
        ),
      ),
    }),
    errors: UNANSWERED,
  },
  'guest.exec': {
    ...agentCall,
    role: 'operator',
    idempotent: false,
    summary: 'Run a program in the guest and answer with how it ended and the beginning of what it wrote',
    params: v.strictObject({
      vm: Name,
      /** A program of the guest; one without a slash is looked for in the PATH of the guest agent. */
      path: v.pipe(Word, v.minLength(1)),
      args: v.optional(v.pipe(v.array(Word), v.maxLength(1024)), []),
      /** The whole environment of the program. Without it, the program gets that of the guest agent. */
      env: v.optional(v.pipe(v.record(Variable, Word), v.maxEntries(256))),
      /** Standard input, at most 64 KiB, in the `encoding`. */
      input: v.optional(v.pipe(v.string(), v.maxLength(Math.ceil(MAX_EXEC_BYTES / 3) * 4)), ''),
      /** Of `input`, `stdout` and `stderr`. As text, what is no UTF-8 comes out as U+FFFD. */
      encoding: v.optional(v.picklist(['utf8', 'base64']), 'utf8'),
      /** A program that has not ended by then is killed with its children. */
      timeoutMs: v.optional(Milliseconds, 30_000),
      /** How much of each output is given back. */
      maxOutputBytes: v.optional(v.pipe(Count, v.maxValue(MAX_EXEC_BYTES)), MAX_EXEC_BYTES),
      answerTimeoutMs,
    }),
    result: v.strictObject({
      ended: v.variant('by', [
        v.strictObject({ by: v.literal('exit'), code: v.number() }),
        v.strictObject({ by: v.literal('signal'), signal: v.number() }),
        /** `killed` is false when it could not be made sure that the program is gone. */
        v.strictObject({ by: v.literal('timeout'), killed: v.boolean() }),
      ]),
      stdout: v.string(),
      stderr: v.string(),
      /** What the program wrote beyond that. Of more than 16 MiB the guest agent itself keeps none, and does not count it. */
      stdoutCutBytes: Count,
      stderrCutBytes: Count,
      durationMs: v.number(),
    }),
    errors: [...UNANSWERED],
  },
  'guest.fsfreeze': {
    ...agentCall,
    role: 'operator',
    idempotent: true,
    summary: 'Hold the writes of the guest to its disks, for a consistent copy of them; they go on by themselves after a time',
    params: v.strictObject({
      vm: Name,
      action: v.picklist(['freeze', 'thaw', 'status']),
      /** With `freeze`: the agent thaws after this time if nobody has; another `freeze` begins the time anew. */
      holdMs: v.optional(v.pipe(Milliseconds, v.maxValue(HOUR_MS)), 30_000),
      answerTimeoutMs,
    }),
    result: v.strictObject({
      status: v.picklist(['thawed', 'frozen']),
      /** File systems that this call froze or thawed. */
      fileSystems: Count,
      /** When they will be thawed. */
      thawsAt: v.optional(Timestamp),
    }),
    errors: UNANSWERED,
  },
  'guest.setTime': {
    ...agentCall,
    role: 'operator',
    idempotent: true,
    summary: "Set the guest's clock, to the host's time where none is given",
    params: v.strictObject({ vm: Name, time: v.optional(Timestamp), answerTimeoutMs }),
    result: v.strictObject({ time: Timestamp }),
    errors: UNANSWERED,
  },
  'guest.shutdown': {
    ...agentCall,
    role: 'operator',
    idempotent: true,
    summary: 'Let the guest shut itself down, and return when its agent has taken the command; `vm.stop` also sees to the end',
    params: v.strictObject({
      vm: Name,
      mode: v.optional(v.picklist(['powerdown', 'reboot', 'halt']), 'powerdown'),
      answerTimeoutMs,
    }),
    result: v.strictObject({ state: VmState }),
    errors: UNANSWERED,
  },
} as const satisfies Record<string, MethodContract>;
