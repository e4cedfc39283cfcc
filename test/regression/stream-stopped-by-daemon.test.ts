/**
 * Symptom: a stream into a guest behind vhost-device-vsock hung for ever.
 * Cause: version 0.3.0 carries a connection no further once its output is not read here and its input not in the guest, both at once. It was
 * found out only where a write had to wait at that very moment: a hub that went away for two seconds left none waiting, and the stream stood
 * still for as long as anybody had patience.
 */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { expect, test } from 'vitest';
import { startFakeVsockDaemon } from '../support/fake-vsock-daemon.ts';

const LOOK_MS = 20;
/** More than the sockets between hold. */
const BYTES = 4 * 1024 ** 2;
/** As much as they do hold. */
const HELD_BYTES = 128 * 1024;

/** Writes as much as is taken, and reads only when it is told to. */
async function jammed(guests: Socket[], device: { connect(options: { port: number; timeoutMs: number }): Promise<unknown> }) {
  // SAFETY: what the vhost-user transport gives is a socket.
  const stream = (await device.connect({ port: 7, timeoutMs: 10_000 })) as Socket;
  stream.pause();
  stream.write(randomBytes(BYTES));
  const [guest] = guests;
  if (guest === undefined) throw new Error('nobody was connected to');
  guest.pause();
  guest.write(randomBytes(BYTES));
  await expect.poll(() => stream.writableNeedDrain && guest.writableNeedDrain).toBe(true);
  return { stream, guest };
}

test('a connection that was jammed both ways and stays so is ended with an error that says why', async () => {
  const guests: Socket[] = [];
  await using daemon = await startFakeVsockDaemon((guest) => void guests.push(guest), { lookMs: LOOK_MS });
  const { stream } = await jammed(guests, daemon.device);
  // All that was on its way comes, and no more.
  guests[0]?.cork();
  stream.resume();
  const [error] = await once(stream, 'error');
  expect(error).toMatchObject({
    code: 'STREAM_RESET',
    message: expect.stringContaining('vhost-device-vsock stopped carrying it'),
    details: { reset: 'TIMEOUT' },
  });
});

/** Lets output lie unread while nothing waits to be written, and reads it then. */
async function letLie(stream: Socket, guest: Socket | undefined): Promise<void> {
  if (guest === undefined) throw new Error('nobody was connected to');
  guest.pause();
  stream.resume().pause();
  const before = stream.bytesRead;
  await new Promise<void>((resolve) => guest.write(randomBytes(HELD_BYTES), () => resolve()));
  stream.resume();
  await expect.poll(() => stream.bytesRead - before).toBe(HELD_BYTES);
}

test('so is one that no write waited on when its output lay unread, and that takes nothing more after that', async () => {
  const guests: Socket[] = [];
  await using daemon = await startFakeVsockDaemon((guest) => void guests.push(guest), { lookMs: LOOK_MS });
  // SAFETY: what the vhost-user transport gives is a socket.
  const stream = (await daemon.device.connect({ port: 7, timeoutMs: 10_000 })) as Socket;
  await letLie(stream, guests[0]);
  stream.write(randomBytes(BYTES));
  const [error] = await once(stream, 'error');
  expect(error).toMatchObject({ code: 'STREAM_RESET', details: { reset: 'TIMEOUT' } });
});

test('and so is one whose reader never stopped, but was late', async () => {
  const guests: Socket[] = [];
  await using daemon = await startFakeVsockDaemon((guest) => void guests.push(guest), { lookMs: LOOK_MS });
  // SAFETY: what the vhost-user transport gives is a socket.
  const stream = (await daemon.device.connect({ port: 7, timeoutMs: 10_000 })) as Socket;
  stream.resume();
  const [guest] = guests;
  if (guest === undefined) throw new Error('nobody was connected to');
  guest.pause();
  // All of it is there before anybody comes to read it.
  guest.write(randomBytes(HELD_BYTES));
  stream.write(randomBytes(BYTES));
  const [error] = await once(stream, 'error');
  expect(error).toMatchObject({ code: 'STREAM_RESET', details: { reset: 'TIMEOUT' } });
});

test('one whose output lay unread and that has carried much since is left alone when its guest only does not read', async () => {
  const guests: Socket[] = [];
  await using daemon = await startFakeVsockDaemon((guest) => void guests.push(guest), { lookMs: 1 });
  // SAFETY: what the vhost-user transport gives is a socket.
  const stream = (await daemon.device.connect({ port: 7, timeoutMs: 10_000 })) as Socket;
  await letLie(stream, guests[0]);
  guests[0]?.resume();
  await new Promise<void>((resolve) => stream.write(randomBytes(BYTES), () => resolve()));
  guests[0]?.pause();
  stream.write(randomBytes(BYTES));
  // Many times as long as it would take to give it up.
  for (let turn = 0; turn < 300; turn += 1) await new Promise((resolve) => setTimeout(resolve, 1));
  expect([stream.destroyed, stream.writableNeedDrain]).toEqual([false, true]);
});

test('one that was jammed and goes on is left alone, and so is one whose guest only does not read', async () => {
  const guests: Socket[] = [];
  await using daemon = await startFakeVsockDaemon((guest) => void guests.push(guest), { lookMs: 1 });
  const { stream, guest } = await jammed(guests, daemon.device);
  guest.resume();
  await once(stream.resume(), 'drain');
  const slow = (await daemon.device.connect({ port: 7, timeoutMs: 10_000 })) as Socket;
  slow.resume().write(randomBytes(BYTES));
  guests[1]?.pause();
  // Many times as long as it would take to give either up.
  for (let turn = 0; turn < 200; turn += 1) await new Promise((resolve) => setTimeout(resolve, 1));
  expect([stream.destroyed, slow.destroyed]).toEqual([false, false]);
  expect(slow.writableNeedDrain).toBe(true);
});
