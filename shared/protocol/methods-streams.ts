/** Methods for connections that a guest makes to its host: `stream.open` (methods-vm.ts) is the other direction. */
import * as v from 'valibot';
import { Count, Name, VsockPort } from './common.ts';
import type { MethodContract } from './contract.ts';

const agentStream = { target: 'agent', kind: 'stream', since: 1, role: 'operator', idempotent: false } as const;

/** 128 random bits as base64url. */
const ConnectionId = v.pipe(v.string(), v.length(22), v.regex(/^[A-Za-z0-9_-]+$/));

/** What is told on the stream of `stream.listen`: one JSON object a line, for each connection that the guest makes. */
export const GuestDialled = v.object({
  connection: ConnectionId,
  /** Generation of the VM that dialled. */
  generation: Count,
  /** Whether one direction of it can be closed alone. */
  halfClose: v.boolean(),
});
export type GuestDialled = v.InferOutput<typeof GuestDialled>;

export const STREAM_METHODS = {
  'stream.listen': {
    ...agentStream,
    summary:
      'Hear of the connections that a guest makes to its host (CID 2) on a port, one line of JSON each, for as long as the stream is open; starts, resets and restarts of the VM do not end it',
    params: v.strictObject({
      vm: Name,
      port: VsockPort,
      /** Takes the port from the one who has it, whose stream ends. Without it, that is a CONFLICT. */
      replace: v.optional(v.boolean(), false),
    }),
    result: v.strictObject({ generation: Count }),
    errors: ['NOT_FOUND', 'UNSUPPORTED', 'CONFLICT', 'LIMIT_EXCEEDED'],
  },
  'stream.accept': {
    ...agentStream,
    summary: 'Take a connection that a guest made, as `stream.listen` told of it; one that nobody takes within 10 s is reset',
    params: v.strictObject({ vm: Name, port: VsockPort, connection: ConnectionId }),
    result: v.strictObject({ transport: v.string(), halfClose: v.boolean(), generation: Count }),
    errors: ['NOT_FOUND'],
  },
} as const satisfies Record<string, MethodContract>;
