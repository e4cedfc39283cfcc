/**
 * Operations: the record of each command that changes something, as the host's journal keeps it. A command's entry in the journal, what
 * `fairlead op` shows and the step of a rollout on a host are this one thing.
 *
 *     accepted ──► running ──► done      its result is kept
 *                     └──────► failed    its error is kept
 *     after a crash of the agent, accepted or running:
 *                              done      its effect is there
 *                              failed    it had none; the same command id may run once more
 *                              unknown   cannot be told; it is never run again under this id
 */
import * as v from 'valibot';
import { Count, Name, Timestamp } from './common.ts';
import type { MethodContract } from './contract.ts';
import { VmState } from './vm.ts';

/** Given by the caller in `_meta.commandId`, else made by the hub or the agent. */
export const CommandId = v.pipe(
  v.string(),
  v.minLength(1),
  v.maxLength(64),
  v.regex(/^[A-Za-z0-9._:-]+$/, 'must be letters, digits, and . _ : -'),
);

/** Who gave the command, as the hub says in `_meta.actor`. */
export const Actor = v.pipe(v.string(), v.minLength(1), v.maxLength(128));

export const OPERATION_STATES = ['accepted', 'running', 'done', 'failed', 'unknown'] as const;
const OperationState = v.picklist(OPERATION_STATES);

/** What was found after a crash, by looking at the VM. */
const Reconciled = v.strictObject({
  outcome: v.picklist(['done', 'not-done', 'unknown']),
  reason: v.string(),
  at: Timestamp,
});

/** Of the VM that the command is for. */
const VmBrief = v.strictObject({ uuid: v.string(), generation: Count, state: VmState });

const summary = {
  id: CommandId,
  method: v.string(),
  vm: v.optional(Name),
  actor: v.optional(Actor),
  state: OperationState,
  acceptedAt: Timestamp,
  endedAt: v.optional(Timestamp),
  /** Code of its error. */
  code: v.optional(v.string()),
} as const;

export const OperationSummary = v.strictObject(summary);
export type OperationSummary = v.InferOutput<typeof OperationSummary>;

export const Operation = v.strictObject({
  ...summary,
  host: v.string(),
  /** SHA-256 of the params as canonical JSON (RFC 8785), hexadecimal: a repeat must have the same. */
  paramsDigest: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)),
  /** As they came, secrets redacted; left out when they are long. */
  params: v.optional(v.record(v.string(), v.unknown())),
  /** How the VM was when the command was accepted; absent when there was none. */
  before: v.optional(VmBrief),
  /** And when it had ended. */
  after: v.optional(VmBrief),
  error: v.optional(
    v.strictObject({ code: v.string(), message: v.string(), details: v.optional(v.record(v.string(), v.unknown())) }),
  ),
  /** What the command answered; left out, with its size and SHA-256 told, when it is longer than 64 KiB. */
  result: v.optional(v.unknown()),
  resultOmitted: v.optional(v.strictObject({ bytes: Count, digest: v.string() })),
  reconciled: v.optional(Reconciled),
  /** How often it was begun: above 1 when it was found not done after a crash, and repeated. */
  attempts: Count,
});
export type Operation = v.InferOutput<typeof Operation>;

const agentCall = { target: 'agent', kind: 'call', since: 1, role: 'viewer', idempotent: true } as const;

export const OPERATION_METHODS = {
  'op.get': {
    ...agentCall,
    summary: 'The record of one command, by its id',
    params: v.strictObject({ id: CommandId }),
    result: Operation,
    errors: ['NOT_FOUND', 'JOURNAL_FAILED'],
  },
  'op.list': {
    ...agentCall,
    summary: 'Commands that the host keeps, newest first',
    params: v.strictObject({
      vm: v.optional(Name),
      state: v.optional(OperationState),
      /** `next` of the page before. */
      after: v.optional(v.pipe(v.string(), v.maxLength(96))),
      limit: v.optional(v.pipe(Count, v.minValue(1), v.maxValue(500)), 100),
    }),
    result: v.strictObject({ operations: v.array(OperationSummary), next: v.optional(v.string()) }),
    errors: ['JOURNAL_FAILED'],
  },
} as const satisfies Record<string, MethodContract>;
