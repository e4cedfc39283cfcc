import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readdir } from 'node:fs/promises';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isAlive } from '../../agent/process-identity.ts';
import type { VsockDevice } from '../../agent/streams/transport.ts';
import { vhostUserTransport } from '../../agent/streams/vhost-user.ts';
import {
  missingForVsockGuest,
  shortDirectory,
  startVsockGuest,
  VHOST_DEVICE_VSOCK,
  type VsockGuest,
} from '../support/vsock-guest.ts';

const missing = missingForVsockGuest();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

const ECHO_PORT = 7;
const RUN_PORT = 1024;
const READY_PORT = 1023;
/** For a guest that answers, on however busy a machine. */
const CONNECT_MS = 60_000;
const silent = { debug() {}, info() {}, warn() {}, error() {} };
const transport = vhostUserTransport({ binary: VHOST_DEVICE_VSOCK, logger: silent });

async function readLine(stream: Duplex): Promise<string> {
  let text = '';
  for await (const chunk of stream) text += String(chunk);
  return text;
}

/** Sends `bytes`, reads as many back, without ending the stream before. */
async function echo(stream: Duplex, bytes: Buffer): Promise<string> {
  const hash = createHash('sha256');
  let received = 0;
  const done = new Promise<void>((resolve, reject) => {
    stream.on('error', reject);
    stream.on('end', () => reject(new Error(`the guest ended the stream after ${received} bytes`)));
    stream.on('data', (chunk: Buffer) => {
      hash.update(chunk);
      received += chunk.length;
      if (received >= bytes.length) resolve();
    });
  });
  stream.write(bytes);
  await done;
  stream.destroy();
  return hash.digest('hex');
}

describe.skipIf(missing !== undefined)('a guest behind vhost-device-vsock', () => {
  let directory: Awaited<ReturnType<typeof shortDirectory>>;
  let device: VsockDevice;
  let guest: VsockGuest;
  const announced = Promise.withResolvers<string>();

  beforeAll(async () => {
    directory = await shortDirectory();
    device = await transport.prepare({ vm: 'web', runDir: directory.path });
    await device.listen(READY_PORT, (stream) => void readLine(stream).then(announced.resolve, announced.reject));
    guest = startVsockGuest(device);
  });

  afterAll(async () => {
    await guest?.[Symbol.asyncDispose]();
    await device?.[Symbol.asyncDispose]();
    await directory?.[Symbol.asyncDispose]();
  });

  it('is unreachable while its kernel boots', async () => {
    await expect(device.connect({ port: ECHO_PORT, timeoutMs: 200 })).rejects.toMatchObject({ code: 'GUEST_UNREACHABLE' });
  });

  it('says by its own connection that it is ready', async () => {
    await guest.ready;
    expect(await announced.promise).toContain('"ready":true');
  });

  it('refuses a port where nothing listens', async () => {
    await expect(device.connect({ port: 9999, timeoutMs: CONNECT_MS })).rejects.toMatchObject({
      code: 'GUEST_REFUSED',
      message: 'guest web refused vsock port 9999: nothing listens there',
    });
  });

  it('echoes random bytes on many streams at once', async () => {
    const run = async () => {
      const bytes = randomBytes(256 * 1024);
      const stream = await device.connect({ port: ECHO_PORT, timeoutMs: CONNECT_MS });
      expect(await echo(stream, bytes)).toBe(createHash('sha256').update(bytes).digest('hex'));
    };
    await Promise.all(Array.from({ length: 16 }, run));
  });

  it('answers in full after the host has ended its side, since the end is not passed on', async () => {
    const stream = await device.connect({ port: RUN_PORT, timeoutMs: CONNECT_MS });
    stream.end('sleep 0.2; echo one; sleep 0.2; echo two\n');
    expect(await readLine(stream)).toBe('one\ntwo\n');
  });

  it('survives attempts that were given up while it did not answer', async () => {
    guest.process.kill('SIGSTOP');
    const attempts = [1, 2, 3].map((n) => device.connect({ port: ECHO_PORT, timeoutMs: 100 * n }));
    const settled = await Promise.allSettled(attempts);
    expect(settled.map((result) => (result.status === 'rejected' ? result.reason.code : 'connected'))).toEqual([
      'GUEST_UNREACHABLE',
      'GUEST_UNREACHABLE',
      'GUEST_UNREACHABLE',
    ]);
    const late = device.connect({ port: ECHO_PORT, timeoutMs: CONNECT_MS });
    guest.process.kill('SIGCONT');
    const bytes = randomBytes(1024);
    expect(await echo(await late, bytes)).toBe(createHash('sha256').update(bytes).digest('hex'));
    expect(await echo(await device.connect({ port: ECHO_PORT, timeoutMs: CONNECT_MS }), bytes)).toHaveLength(64);
  });

  it('ends an attempt at once when it is cancelled', async () => {
    guest.process.kill('SIGSTOP');
    const abort = new AbortController();
    const attempt = device.connect({ port: ECHO_PORT, timeoutMs: 60_000, signal: abort.signal });
    abort.abort(new Error('enough'));
    await expect(attempt).rejects.toThrow('enough');
    guest.process.kill('SIGCONT');
  });

  it('can be taken over by a later agent', async () => {
    const adopted = await transport.adopt({ vm: 'web', runDir: directory.path, state: device.state });
    const bytes = randomBytes(4096);
    expect(await echo(await adopted.connect({ port: ECHO_PORT, timeoutMs: CONNECT_MS }), bytes)).toHaveLength(64);
  });

  it('ends a connection that the daemon carries no further, jammed both ways', async () => {
    const impatient = vhostUserTransport({ binary: VHOST_DEVICE_VSOCK, logger: silent, lookMs: 200 });
    const adopted = await impatient.adopt({ vm: 'web', runDir: directory.path, state: device.state });
    const stream = await adopted.connect({ port: ECHO_PORT, timeoutMs: CONNECT_MS });
    const failed = once(stream, 'error');
    stream.pause().write(randomBytes(4 * 1024 ** 2));
    // Nobody takes any more of it: the same number after a second.
    const waiting = [Number.NaN];
    const stands = (): boolean => waiting.push(stream.writableLength) > 1 && waiting.at(-1) === waiting.at(-2);
    await expect.poll(stands, { interval: 1000, timeout: 60_000 }).toBe(true);
    stream.resume();
    const [error] = await failed;
    expect(error).toMatchObject({ code: 'STREAM_RESET', message: expect.stringContaining('vhost-device-vsock') });
  });

  it('ends one that it carries no further, also where no write waited when it stood still', async () => {
    const impatient = vhostUserTransport({ binary: VHOST_DEVICE_VSOCK, logger: silent, lookMs: 100 });
    const adopted = await impatient.adopt({ vm: 'web', runDir: directory.path, state: device.state });
    // SAFETY: what the vhost-user transport gives is a socket.
    const stream = (await adopted.connect({ port: ECHO_PORT, timeoutMs: CONNECT_MS })) as Socket;
    const failed = once(stream, 'error');
    stream.resume().pause();
    // More than the guest takes while nobody reads its echo, and less than the sockets hold besides.
    await new Promise<void>((resolve) => stream.write(randomBytes(640 * 1024), () => resolve()));
    // By then the echo has come as far as it can.
    const beside = await adopted.connect({ port: RUN_PORT, timeoutMs: CONNECT_MS });
    beside.end('sleep 1; echo over\n');
    expect(await readLine(beside)).toBe('over\n');
    stream.resume();
    stream.write(randomBytes(4 * 1024 ** 2));
    const [error] = await failed;
    expect(error).toMatchObject({ code: 'STREAM_RESET', message: expect.stringContaining('vhost-device-vsock') });
  });

  it('leaves no process and no socket when it is disposed, and what was open ends with an error', async () => {
    const { daemon } = device.state;
    const stream = await device.connect({ port: ECHO_PORT, timeoutMs: CONNECT_MS });
    stream.resume();
    const failed = once(stream, 'error');
    await device[Symbol.asyncDispose]();
    expect(await failed).toMatchObject([{ code: 'STREAM_RESET', details: { reset: 'NO_DEVICE' } }]);
    expect(daemon !== undefined && isAlive(daemon)).toBe(false);
    expect(await readdir(directory.path)).toEqual(['vsock.log']);
    await expect(device.connect({ port: ECHO_PORT, timeoutMs: 100 })).rejects.toMatchObject({ code: 'GUEST_UNREACHABLE' });
  });
});

describe.skipIf(missing !== undefined)('vhost-device-vsock that does not start', () => {
  it('is reported with what it said', async () => {
    await using directory = await shortDirectory();
    const broken = vhostUserTransport({ binary: '/bin/false', logger: silent });
    await expect(broken.prepare({ vm: 'web', runDir: directory.path })).rejects.toMatchObject({
      code: 'PROCESS_FAILED',
      message: expect.stringContaining('/bin/false ended with exit code 1'),
    });
  });

  it('is reported when there is no such program', async () => {
    await using directory = await shortDirectory();
    const broken = vhostUserTransport({ binary: '/nowhere/vhost-device-vsock', logger: silent });
    await expect(broken.prepare({ vm: 'web', runDir: directory.path })).rejects.toMatchObject({ code: 'PROCESS_FAILED' });
  });

  it('is refused for a directory whose name is too long for sockets', async () => {
    await expect(transport.prepare({ vm: 'web', runDir: `/tmp/${'x'.repeat(100)}` })).rejects.toMatchObject({
      code: 'UNSUPPORTED',
    });
  });
});
