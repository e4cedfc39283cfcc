/**
 * Symptom: a guest's answer was lost, in part or whole, when it closed without reading all of its input: a server that refuses an upload.
 * Cause: the write that was under way met EPIPE, or reading ended with ECONNRESET, upon which Node destroys the socket with what is still to
 * be read; and the RESET that followed dropped what was under way on the line. `fairlead forward` ended the local connection as if all were
 * well where it should have reset it.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect as dial, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import type { Duplex } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { connect as connectBrowser } from '../../client/browser.ts';
import { connect } from '../../client/index.ts';
import { FairleadError } from '../../shared/errors.ts';
import { type FakeFleet, startFakeFleet } from '../support/fake-fleet.ts';
import { startFakeVsockDaemon } from '../support/fake-vsock-daemon.ts';

const ENTRY = fileURLToPath(new URL('../../bin/fairlead.js', import.meta.url));
const ANSWER = randomBytes(300_000);
const INPUT_BYTES = 4 * 1024 ** 2;

/** Answers the first bytes that it gets, and closes with the rest unread. */
function refuse(guest: Socket): void {
  guest.once('data', () => {
    guest.pause();
    guest.write(ANSWER, () => guest.destroy());
  });
}

/** What the stream brings to its end, and the error after that. */
async function hearOut(stream: Duplex): Promise<{ bytes: Buffer; ended: boolean; error: unknown }> {
  const chunks: Buffer[] = [];
  let [ended, error]: [boolean, unknown] = [false, undefined];
  stream.on('data', (chunk: Buffer) => void chunks.push(chunk));
  stream.on('end', () => {
    ended = true;
  });
  stream.on('error', (thrown) => {
    error = thrown;
  });
  await once(stream, 'close').catch(() => {});
  return { bytes: Buffer.concat(chunks), ended, error };
}

async function startFleet(serve: (guest: Socket) => void): Promise<{ fleet: FakeFleet } & AsyncDisposable> {
  await using scope = new AsyncDisposableStack();
  const daemon = scope.use(await startFakeVsockDaemon(serve));
  const fleet = scope.use(await startFakeFleet());
  fleet.vms.openStream = async ({ port }) => {
    const stream = await daemon.device.connect({ port, timeoutMs: 10_000 });
    return { stream, transport: 'vhost-user', halfClose: false, generation: 1 };
  };
  const all = scope.move();
  return { fleet, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

describe('a guest that answers, and closes with input unread', () => {
  test('is heard out by whoever uses its connection, who then gets the error', async () => {
    await using daemon = await startFakeVsockDaemon(refuse);
    const stream = await daemon.device.connect({ port: 7, timeoutMs: 10_000 });
    stream.write(Buffer.alloc(INPUT_BYTES));
    const heard = await hearOut(stream);
    expect(heard.bytes.equals(ANSWER)).toBe(true);
    expect(heard).toMatchObject({ ended: true, error: { code: expect.stringMatching(/^(EPIPE|ECONNRESET)$/) } });
  });

  test('is heard out by an operator, who reads slowly, through hub and agent', async () => {
    await using started = await startFleet(refuse);
    await using hub = await connect(started.fleet.url, started.fleet.token);
    const stream = await hub.openStream('web', 7);
    stream.write(Buffer.alloc(INPUT_BYTES));
    const slow = setInterval(() => (stream.isPaused() ? stream.resume() : stream.pause()), 1);
    const heard = await hearOut(stream).finally(() => clearInterval(slow));
    expect(heard.bytes.equals(ANSWER)).toBe(true);
    expect(heard).toMatchObject({ ended: true, error: { code: 'STREAM_RESET', details: { reset: 'RESET' } } });
  });

  test('is heard out by a web page', async () => {
    await using started = await startFleet(refuse);
    await using hub = await connectBrowser(started.fleet.url, started.fleet.token);
    const { readable, writable } = await hub.openWebStream('web', 7);
    const writer = writable.getWriter();
    const written = writer.write(new Uint8Array(INPUT_BYTES)).catch(() => {});
    const chunks = await Array.fromAsync(readable);
    expect(Buffer.concat(chunks).equals(ANSWER)).toBe(true);
    await written;
    await expect(writer.closed).rejects.toMatchObject({ code: 'STREAM_RESET' });
  });

  test('is heard out by a local program through `fairlead forward`', async () => {
    await using started = await startFleet(refuse);
    await using forward = await startForward(started.fleet);
    const socket = dial({ port: forward.port, allowHalfOpen: true });
    socket.write(Buffer.alloc(INPUT_BYTES));
    // The kernel may have taken all of the input; a socket that has read its end and writes nothing is not told of a reset.
    socket.once('end', () => socket.end());
    const heard = await hearOut(socket);
    expect(heard.bytes.equals(ANSWER)).toBe(true);
  });
});

describe('a guest that is gone in the middle', () => {
  test('does not look as if it had ended, where its daemon ended', async () => {
    const guests: Socket[] = [];
    await using daemon = await startFakeVsockDaemon((guest) => void guests.push(guest));
    const stream = await daemon.device.connect({ port: 7, timeoutMs: 10_000 });
    await daemon.kill();
    for (const guest of guests) guest.end();
    expect(await hearOut(stream)).toMatchObject({
      ended: false,
      error: { code: 'STREAM_RESET', details: { reset: 'NO_DEVICE' } },
    });
  });

  test('resets the local connection of `fairlead forward`', async () => {
    await using fleet = await startFakeFleet();
    const opened = Promise.withResolvers<Duplex>();
    const { openStream } = fleet.vms;
    fleet.vms.openStream = async (...args) => {
      const result = await openStream(...args);
      opened.resolve(result.stream);
      return result;
    };
    await using forward = await startForward(fleet);
    const socket = dial(forward.port);
    socket.write('hello');
    expect(String((await once(socket, 'data'))[0])).toBe('hello');
    (await opened.promise).destroy(new FairleadError('STREAM_RESET', 'the VM ended'));
    expect(await hearOut(socket)).toMatchObject({ ended: false, error: { code: 'ECONNRESET' } });
  });
});

test('a guest that is given up since it says nothing more does not reset the local connection of `fairlead forward`', async () => {
  await using started = await startFleet((guest) => guest.pipe(guest, { end: false }));
  await using forward = await startForward(started.fleet, ['--idle-timeout', '1s']);
  const socket = dial({ port: forward.port, allowHalfOpen: true });
  socket.end('hello');
  expect(await hearOut(socket)).toMatchObject({ bytes: Buffer.from('hello'), ended: true, error: undefined });
});

async function startForward(fleet: FakeFleet, options: readonly string[] = []): Promise<{ port: number } & AsyncDisposable> {
  const env = { ...process.env, FAIRLEAD_HUB: fleet.url, FAIRLEAD_TOKEN: fleet.token };
  const child: ChildProcess = spawn(process.execPath, [ENTRY, 'forward', 'web', '0:7', ...options], {
    env,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const said = Promise.withResolvers<string>();
  if (child.stderr !== null) createInterface({ input: child.stderr }).on('line', said.resolve);
  const port = Number(/:(\d+) leads to port 7/.exec(await said.promise)?.[1]);
  return {
    port,
    [Symbol.asyncDispose]: async () => {
      const exited = once(child, 'exit');
      child.kill('SIGINT');
      await exited;
    },
  };
}
