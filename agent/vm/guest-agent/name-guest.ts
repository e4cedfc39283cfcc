/**
 * Tells the guest of a clone who it is, by its agent: what the guest has written down of itself is that of the guest that was saved.
 *
 *     /etc/fairlead/cloned NAME UUID    where the guest has that program, it does what it takes: host name, keys, machine id, leases
 *     its host name                     where it has none: set to NAME, and no more
 */
import { FairleadError } from '../../../shared/errors.ts';
import { parseParams } from '../../../shared/protocol/validate.ts';
import type { CallOptions } from '../api.ts';
import type { Guests } from './guests.ts';

const SCRIPT = `
hook=/etc/fairlead/cloned
if [ -x "$hook" ]; then exec "$hook" "$1" "$2"; fi
if command -v hostnamectl >/dev/null && hostnamectl set-hostname "$1" 2>/dev/null; then exit 0; fi
hostname "$1" || exit
if [ -w /etc/hostname ]; then echo "$1" >/etc/hostname; fi
`;
const MAX_SAID_BYTES = 1024;

/** @throws FairleadError what the guest's agent throws, and GUEST_FAILED where the program says that it failed, or takes too long. */
export async function nameGuest(
  guests: Pick<Guests, 'exec'>,
  { vm, uuid }: { readonly vm: string; readonly uuid: string },
  { timeoutMs, signal }: CallOptions & { readonly timeoutMs: number },
): Promise<void> {
  const args = ['-c', SCRIPT, 'sh', vm, uuid];
  const exec = { vm, path: '/bin/sh', args, timeoutMs, answerTimeoutMs: timeoutMs, maxOutputBytes: MAX_SAID_BYTES };
  const { ended, stderr } = await guests.exec(parseParams('guest.exec', exec), { signal });
  if (ended.by === 'exit' && ended.code === 0) return;
  const how = ended.by === 'exit' ? `ended with ${ended.code}` : ended.by === 'signal' ? 'was killed' : 'took too long';
  const said = stderr.trim() === '' ? '' : `: ${stderr.trim()}`;
  throw new FairleadError('GUEST_FAILED', `what tells the guest of VM ${vm} its name ${how}${said}`, { details: { vm } });
}
