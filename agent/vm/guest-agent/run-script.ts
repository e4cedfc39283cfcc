/** A shell script of the agent's own, run in a guest by its agent: it ends well, or what it said is the error. */
import { FairleadError } from '../../../shared/errors.ts';
import { parseParams } from '../../../shared/protocol/validate.ts';
import type { CallOptions } from '../api.ts';
import type { Guests } from './guests.ts';

export interface GuestScript {
  readonly vm: string;
  /** For /bin/sh. */
  readonly text: string;
  /** Its `$1` and so on. */
  readonly args?: readonly string[] | undefined;
  readonly input?: Uint8Array | undefined;
  /** Begins the message of a failure: "what tells the guest its name". */
  readonly what: string;
}

export interface ScriptLimits extends CallOptions {
  readonly timeoutMs: number;
  /** How long the guest's agent may be silent. Default: as long as the script may take. */
  readonly answerTimeoutMs?: number | undefined;
}

const MAX_SAID_BYTES = 1024;

/** @throws FairleadError what the guest's agent throws, and GUEST_FAILED where the script says that it failed, or takes too long. */
export async function runScript(
  guests: Pick<Guests, 'exec'>,
  { vm, text, args = [], input = new Uint8Array(), what }: GuestScript,
  { timeoutMs, answerTimeoutMs = timeoutMs, signal }: ScriptLimits,
): Promise<void> {
  const exec = {
    vm,
    path: '/bin/sh',
    args: ['-c', text, 'sh', ...args],
    input: Buffer.from(input).toString('base64'),
    encoding: 'base64',
    timeoutMs,
    answerTimeoutMs,
    maxOutputBytes: MAX_SAID_BYTES,
  };
  const { ended, stderr } = await guests.exec(parseParams('guest.exec', exec), { signal });
  if (ended.by === 'exit' && ended.code === 0) return;
  const how = ended.by === 'exit' ? `ended with ${ended.code}` : ended.by === 'signal' ? 'was killed' : 'took too long';
  const words = Buffer.from(stderr, 'base64').toString().trim();
  throw new FairleadError('GUEST_FAILED', `${what}, in VM ${vm}, ${how}${words === '' ? '' : `: ${words}`}`, { details: { vm } });
}
