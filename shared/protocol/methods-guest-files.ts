/**
 * Files of a guest, by its QEMU guest agent, as streams. On the stream are the file's bytes and then 32 more: their SHA-256, so that whoever
 * receives them knows that they are all there and as they were.
 */
import * as v from 'valibot';
import { Count, Name } from './common.ts';
import type { MethodContract } from './contract.ts';
import { answerTimeoutMs, UNANSWERED } from './methods-guest.ts';

const agentStream = { target: 'agent', kind: 'stream', since: 1, role: 'operator' } as const;

const GuestPath = v.pipe(
  v.string(),
  v.maxLength(4095),
  v.regex(/^(\/|[A-Za-z]:[\\/])[^\0]*$/, 'must be an absolute path in the guest, without NUL characters'),
);

/** What the host says on the stream of `guest.writeFile` when the file is in its place: one line of JSON. */
export const WrittenFile = v.object({
  bytes: Count,
  /** In hexadecimal digits. */
  sha256: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)),
  /** How it was made sure that the guest has them: by its own `sha256sum`, or by reading them back. */
  verifiedBy: v.string(),
});
export type WrittenFile = v.InferOutput<typeof WrittenFile>;

export const GUEST_FILE_METHODS = {
  'guest.readFile': {
    ...agentStream,
    idempotent: true,
    summary: 'Read a file of the guest: its bytes, then their SHA-256 (32 bytes)',
    params: v.strictObject({ vm: Name, path: GuestPath, answerTimeoutMs }),
    result: v.strictObject({
      /** Absent where the guest cannot say, as for files of /proc. */
      sizeBytes: v.optional(Count),
    }),
    errors: UNANSWERED,
  },
  'guest.writeFile': {
    ...agentStream,
    idempotent: false,
    summary:
      'Write a file of the guest from what is sent: its bytes, then their SHA-256 (32 bytes). It appears whole, in place of one that was there, and is then answered with one line of JSON; when anything goes wrong before, nothing changes',
    params: v.strictObject({
      vm: Name,
      path: GuestPath,
      /** Permissions, as chmod(1) has them. */
      mode: v.optional(v.pipe(Count, v.maxValue(0o7777)), 0o644),
      answerTimeoutMs,
    }),
    result: v.strictObject({}),
    errors: UNANSWERED,
  },
} as const satisfies Record<string, MethodContract>;
