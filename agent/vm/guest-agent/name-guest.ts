/**
 * Tells the guest of a clone who it is, by its agent: what the guest has written down of itself is that of the guest that was saved.
 *
 *     /etc/fairlead/cloned NAME UUID    where the guest has that program, it does what it takes: host name, keys, machine id, leases
 *     its host name                     where it has none: set to NAME, and no more
 */
import type { Guests } from './guests.ts';
import { runScript, type ScriptLimits } from './run-script.ts';

const SCRIPT = `
hook=/etc/fairlead/cloned
if [ -x "$hook" ]; then exec "$hook" "$1" "$2"; fi
if command -v hostnamectl >/dev/null && hostnamectl set-hostname "$1" 2>/dev/null; then exit 0; fi
hostname "$1" || exit
if [ -w /etc/hostname ]; then echo "$1" >/etc/hostname; fi
`;

/** @throws FairleadError what runScript throws. */
export function nameGuest(
  guests: Pick<Guests, 'exec'>,
  { vm, uuid }: { readonly vm: string; readonly uuid: string },
  limits: ScriptLimits,
): Promise<void> {
  return runScript(guests, { vm, text: SCRIPT, args: [vm, uuid], what: 'what tells the guest its name' }, limits);
}
