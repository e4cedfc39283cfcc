/**
 * Commands as the hub keeps them: what operators asked of hosts that changes something, from the asking until it is known what came of it,
 * over broken lines and restarts of either end. The host's journal has the same command under the same id (methods-operation.ts); that is
 * what a command is done by, once.
 *
 *     queued ──its host has a line──► sent ──answer──► done
 *       │  ▲                            │   └────────► failed
 *       │  └── the line broke: ask the host what became of it, and send it where it never came ──┤   (whenOffline: queue)
 *       │                               └── the line broke, the time is over, or cancelled ──► settling ──the host is asked──► done
 *       └── cancelled, or its time is over ──► failed, never run                                    └── a day without an answer ► unknown
 */
import * as v from 'valibot';
import { Count, Name, Timestamp } from './common.ts';
import type { MethodContract } from './contract.ts';
import { CommandId } from './methods-operation.ts';

/** What becomes of a command for a host that is away: it fails at once, or waits for the host until its time is over. */
export const WhenOffline = v.picklist(['fail', 'queue']);
export type WhenOffline = v.InferOutput<typeof WhenOffline>;

export const COMMAND_STATES = ['queued', 'sent', 'settling', 'done', 'failed', 'unknown'] as const;
export const CommandState = v.picklist(COMMAND_STATES);

const JsonParams = v.record(v.pipe(v.string(), v.maxLength(64)), v.unknown());
const Milliseconds = v.pipe(Count, v.minValue(1), v.maxValue(7 * 24 * 3600 * 1000));

export const CommandFailure = v.strictObject({
  code: v.string(),
  message: v.string(),
  details: v.optional(v.record(v.string(), v.unknown())),
});

export const CommandRecord = v.strictObject({
  id: CommandId,
  host: Name,
  method: v.string(),
  vm: v.optional(Name),
  /** Id of the token. */
  actor: v.string(),
  whenOffline: WhenOffline,
  state: CommandState,
  createdAt: Timestamp,
  /** When it is given up where it was not done by then. */
  expiresAt: v.optional(Timestamp),
  endedAt: v.optional(Timestamp),
  /** How often it was sent: above 1 after a broken line. */
  sends: Count,
  error: v.optional(CommandFailure),
  /** What the host answered; a long one is with the host alone (`op.get`). */
  result: v.optional(v.unknown()),
  /** As text, secrets taken out, cut where long. */
  params: v.string(),
});
export type CommandRecord = v.InferOutput<typeof CommandRecord>;

const hubCall = { target: 'hub', kind: 'call', since: 1 } as const;
const ById = v.strictObject({ id: CommandId });

export const COMMAND_METHODS = {
  'command.submit': {
    ...hubCall,
    role: 'operator',
    idempotent: false,
    summary: 'Give a host a command without waiting for it; answers once it is kept. The method asks for its own role',
    params: v.strictObject({
      method: v.pipe(v.string(), v.maxLength(64)),
      params: v.optional(JsonParams, {}),
      host: v.optional(Name),
      /** The same id once more is the same command. */
      id: v.optional(CommandId),
      whenOffline: v.optional(WhenOffline, 'queue'),
      timeoutMs: v.optional(Milliseconds, 24 * 3600 * 1000),
    }),
    result: CommandRecord,
    errors: ['NOT_FOUND', 'CONFLICT', 'HOST_UNREACHABLE', 'WRONG_STATE'],
  },
  'command.list': {
    ...hubCall,
    role: 'viewer',
    idempotent: true,
    summary: 'Commands that the hub keeps, the newest first',
    params: v.strictObject({
      host: v.optional(Name),
      vm: v.optional(Name),
      state: v.optional(CommandState),
      /** Those that have not ended. */
      open: v.optional(v.boolean(), false),
      /** `next` of the page before. */
      after: v.optional(CommandId),
      limit: v.optional(v.pipe(Count, v.minValue(1), v.maxValue(500)), 100),
    }),
    result: v.strictObject({ commands: v.array(CommandRecord), next: v.optional(CommandId) }),
    errors: [],
  },
  'command.get': {
    ...hubCall,
    role: 'viewer',
    idempotent: true,
    summary: 'One command as the hub keeps it',
    params: ById,
    result: CommandRecord,
    errors: ['NOT_FOUND'],
  },
  'command.wait': {
    ...hubCall,
    role: 'viewer',
    idempotent: true,
    summary: 'Wait until it is known what came of a command',
    params: ById,
    result: CommandRecord,
    errors: ['NOT_FOUND'],
  },
  'command.cancel': {
    ...hubCall,
    role: 'operator',
    idempotent: true,
    summary:
      'Take a command back: one that waits never runs, one that runs is told to stop; answers once it is known what came of it',
    params: ById,
    result: CommandRecord,
    errors: ['NOT_FOUND'],
  },
} as const satisfies Record<string, MethodContract>;
