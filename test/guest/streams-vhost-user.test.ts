import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isAlive } from '../../agent/process-identity.ts';
import type { Lift } from '../../agent/streams/reviver.ts';
import type { VsockDevice } from '../../agent/streams/transport.ts';
import { vhostUserTransport } from '../../agent/streams/vhost-user.ts';
import { requireNative } from '../../native/index.ts';
import { socketFd } from '../../native/socket-fd.ts';
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

/** As /proc tells it: R, S, T and so on. */
function stateOfThread(id: string): string | undefined {
  return /\) (\w) /.exec(readFileSync(`/proc/${id}/stat`, 'utf8'))?.[1];
}

/** The SHA-256 of the next so many bytes. */
async function received(stream: Duplex, bytes: number): Promise<string> {
  const hash = createHash('sha256');
  let count = 0;
  await new Promise<void>((resolve, reject) => {
    stream.on('error', reject);
    stream.on('end', () => reject(new Error(`the guest ended the stream after ${count} bytes`)));
    stream.on('data', (chunk: Buffer) => {
      hash.update(chunk);
      count += chunk.length;
      if (count >= bytes) resolve();
    });
    stream.resume();
  });
  return hash.digest('hex');
}

/** Sends `bytes`, reads as many back, without ending the stream before. */
async function echo(stream: Duplex, bytes: Buffer): Promise<string> {
  const back = received(stream, bytes.length);
  stream.write(bytes);
  const hash = await back;
  stream.destroy();
  return hash;
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
    // Every thread, of which each stops when it comes to it.
    const states = () => readdirSync(`/proc/${guest.process.pid}/task`).map(stateOfThread);
    await expect.poll(() => new Set(states())).toEqual(new Set(['T']));
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

  /** An echo whose output nobody reads until neither direction goes on; what was sent. */
  const jam = async (from: VsockDevice, bytes: number): Promise<{ stream: Socket; sent: Buffer }> => {
    // SAFETY: what the vhost-user transport gives is a socket.
    const stream = (await from.connect({ port: ECHO_PORT, timeoutMs: CONNECT_MS })) as Socket;
    const sent = randomBytes(bytes);
    stream.resume().pause().write(sent);
    // Nobody takes any more of it: the same numbers after a second.
    const waiting = [''];
    const stands = (): boolean =>
      waiting.push(`${stream.writableLength} ${requireNative().getUntaken(socketFd(stream))}`) > 2 &&
      waiting.at(-1) === waiting.at(-2);
    await expect.poll(stands, { interval: 1000, timeout: 60_000 }).toBe(true);
    return { stream, sent };
  };
  const hashOf = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
  const adoptWith = (options: Partial<Parameters<typeof vhostUserTransport>[0]>): Promise<VsockDevice> =>
    vhostUserTransport({ binary: VHOST_DEVICE_VSOCK, logger: silent, ...options }).adopt({
      vm: 'web',
      runDir: directory.path,
      state: device.state,
    });

  it('carries a connection on that the daemon has jammed both ways, and says so', async () => {
    const logged: object[] = [];
    const adopted = await adoptWith({ logger: { ...silent, info: (fields: object) => void logged.push(fields) } });
    for (const bytes of [4 * 1024 ** 2, 640 * 1024]) {
      const { stream, sent } = await jam(adopted, bytes);
      expect(await received(stream, bytes)).toBe(hashOf(sent));
      await once(stream.destroy(), 'close');
    }
    expect(logged).toEqual([
      { vm: 'web', port: ECHO_PORT },
      { vm: 'web', port: ECHO_PORT, times: expect.any(Number) },
      { vm: 'web', port: ECHO_PORT },
      { vm: 'web', port: ECHO_PORT, times: expect.any(Number) },
    ]);
  });

  it('carries large echoes to their end, one after the other and some at once, that are written and read as fast as it goes', async () => {
    const run = async (): Promise<void> => {
      const bytes = randomBytes(16 * 1024 ** 2);
      expect(await echo(await device.connect({ port: ECHO_PORT, timeoutMs: CONNECT_MS }), bytes)).toBe(hashOf(bytes));
    };
    for (let n = 0; n < 3; n++) await run();
    await Promise.all([run(), run(), run()]);
  });

  it('ends a connection that the daemon carries no further where it cannot be revived, and says why', async () => {
    const lift: Lift = {
      untaken: (socket) => requireNative().getUntaken(socketFd(socket)),
      lift() {
        throw new Error('no right to trace it');
      },
    };
    for (const [bytes, lookMs] of [
      [4 * 1024 ** 2, 200],
      [640 * 1024, 100],
    ] as const) {
      const adopted = await adoptWith({ lookMs, lift });
      const { stream } = await jam(adopted, bytes);
      const failed = once(stream, 'error');
      stream.resume();
      const [error] = await failed;
      expect(error).toMatchObject({
        code: 'STREAM_RESET',
        message:
          'the stream into VM web was reset: vhost-device-vsock stopped carrying it, jammed both ways, and it could not be revived: no right to trace it',
      });
    }
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
