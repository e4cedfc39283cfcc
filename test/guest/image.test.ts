/** The demo guest, booted by QEMU directly: what guest/README.md promises of it. */
import { createHash, randomBytes } from 'node:crypto';
import { buffer, text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type BareGuest, bootBareGuest, whyNoGuest } from '../support/guest/bare-guest.ts';

const reason = whyNoGuest();
if (reason !== undefined) console.log(`skipped: ${reason}`);
const BOOT_TIMEOUT_MS = 60_000;

const MACHINES = [
  { machine: 'q35', kernel: 'vmlinux' },
  { machine: 'q35', kernel: 'vmlinuz' },
  { machine: 'microvm,pcie=on', kernel: 'vmlinux' },
] as const;

describe.skipIf(reason !== undefined)('the guest image', () => {
  test.for(MACHINES)('boots $kernel on $machine, serves vsock, obeys the power button', async ({ machine, kernel }) => {
    await using guest = await bootBareGuest({ machine, kernel });
    expect(JSON.parse(await guest.readyLine(BOOT_TIMEOUT_MS))).toEqual({ ready: true, uptimeSeconds: expect.any(Number) });

    expect(await echo(guest, 7, Buffer.from('hello'))).toBe('hello');
    expect(await echo(guest, 1234, Buffer.from('good morning'))).toBe('good morning');
    expect(await runInGuest(guest, 'echo out; echo err >&2; hostname')).toBe('out\nerr\nfairlead-guest\n');

    guest.monitor('system_powerdown');
    expect(await guest.exited).toBe(0);
  });

  test('says that it is ready when a vsock device is plugged in after the boot', async () => {
    await using guest = await bootBareGuest({ machine: 'q35', vsockLater: true });
    await guest.consoleShows('FAIRLEAD GUEST READY', BOOT_TIMEOUT_MS);
    guest.plugVsock();
    expect(await guest.readyLine(BOOT_TIMEOUT_MS)).toContain('"ready":true');
    expect(await echo(guest, 7, Buffer.from('plugged'))).toBe('plugged');
  });

  describe('on a machine that goes on', () => {
    let guest: BareGuest;
    beforeAll(async () => {
      guest = await bootBareGuest({ machine: 'q35' });
      await guest.readyLine(BOOT_TIMEOUT_MS);
    });
    afterAll(() => guest?.[Symbol.asyncDispose]());

    test('echoes on 64 streams at once, both ways at the same time', async () => {
      const sent = Array.from({ length: 64 }, () => randomBytes(256 * 1024));
      const received = await Promise.all(sent.map((bytes) => echoBytes(guest, 7, bytes)));
      expect(received.map(sha256)).toEqual(sent.map(sha256));
    });

    test('says that it is ready again after a reset', async () => {
      guest.monitor('system_reset');
      expect(await guest.readyLine(BOOT_TIMEOUT_MS)).toContain('"ready":true');
      expect(await echo(guest, 7, Buffer.from('back'))).toBe('back');
    });
  });
});

async function echo(guest: BareGuest, port: number, bytes: Buffer): Promise<string> {
  return (await echoBytes(guest, port, bytes)).toString();
}

/** Ends the stream when all is back: the daemon of this test loses what comes after a half-close. */
async function echoBytes(guest: BareGuest, port: number, bytes: Buffer): Promise<Buffer> {
  const socket = await guest.dial(port);
  let missing = bytes.length;
  socket.on('data', (chunk: Buffer) => {
    missing -= chunk.length;
    if (missing <= 0) socket.end();
  });
  const received = buffer(socket);
  socket.write(bytes);
  return received;
}

async function runInGuest(guest: BareGuest, command: string): Promise<string> {
  const socket = await guest.dial(1024);
  socket.write(`${command}\n`);
  const output = await text(socket);
  socket.end();
  return output;
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
