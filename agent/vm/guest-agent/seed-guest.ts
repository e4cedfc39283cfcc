/**
 * Gives the kernel of a clone random numbers of its own, by its agent: it goes on with the generator of the guest that was saved, and so do
 * its sisters. A kernel with the driver of the generation id does this by itself; for another it is
 *
 *     bytes of the host's generator ──▶ /dev/urandom, mixed in ──▶ RNDRESEEDCRNG (random(4)): numbers are of the new seed from here on
 *
 * No program that every guest has makes that call. It is made by the first of perl, python3 and socat that is there; without one the kernel
 * takes up the bytes when it seeds itself next, within a minute.
 */
import { randomBytes } from 'node:crypto';
import type { Guests } from './guests.ts';
import { runScript, type ScriptLimits } from './run-script.ts';

/** As much as the kernel's pool holds, twice. */
const SEED_BYTES = 64;

/** 20999 is RNDRESEEDCRNG, _IO('R', 7), of linux/random.h. */
const SCRIPT = `
device=/dev/urandom request=20999
cat >"$device" || exit
perl -e 'open(my $f, ">", $ARGV[0]) && ioctl($f, $ARGV[1], 0) or die' "$device" "$request" 2>/dev/null && exit
python3 -c 'import fcntl, sys; fcntl.ioctl(open(sys.argv[1], "wb"), int(sys.argv[2]))' "$device" "$request" 2>/dev/null && exit
socat -u /dev/null "OPEN:$device,wronly,ioctl-void=$request" 2>/dev/null && exit
echo 'neither perl, python3 nor socat could have the kernel take up the new seed, which it does by itself within a minute' >&2
exit 1
`;

/** @throws FairleadError what runScript throws. */
export function seedGuest(guests: Pick<Guests, 'exec'>, vm: string, limits: ScriptLimits): Promise<void> {
  const input = randomBytes(SEED_BYTES);
  return runScript(guests, { vm, text: SCRIPT, input, what: 'what gives the guest a random seed of its own' }, limits);
}
