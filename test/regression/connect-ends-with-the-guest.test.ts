/**
 * Symptom: `fairlead connect VM PORT < FILE` dropped the rest of FILE and exited with 0 when the guest ended its own half first, though the
 * guest went on reading. And where the guest takes nothing, up to a window of input was given up with 0 (`connect`, `forward`, `listen`).
 * Cause: the guest's end was taken for the end of both; and what the stream had handed on to the line counted as taken by the guest.
 */
import { createReadStream } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Duplex, PassThrough } from 'node:stream';
import { describe, expect, onTestFinished, test } from 'vitest';
import { connectHub, type HubConnection } from '../../cli/connection.ts';
import { joinLocal } from '../../cli/join-local.ts';
import { joinTerminal, type TerminalTurns } from '../../cli/join-terminal.ts';
import { type FakeFleet, startFakeFleet } from '../support/fake-fleet.ts';

const CHUNK = Buffer.alloc(64 * 1024);
const INPUT_BYTES = 2 * 1024 * 1024;
const IDLE_MS = 200;
/** Longer than the test: what waits for it fails. */
const NEVER_MS = 3_600_000;

interface Guest {
  stream: Duplex;
  taken: number;
  readonly ended: Promise<void>;
}

interface GuestOptions {
  readonly halfClose: boolean;
  readonly says?: string;
  readonly take?: (done: (error?: Error) => void) => void;
}

/** With `says` it ends its own half right away. */
function guestOf(fleet: FakeFleet, { halfClose, says, take = setImmediate }: GuestOptions): Guest {
  const { promise: ended, resolve } = Promise.withResolvers<void>();
  const guest: Guest = { stream: new Duplex(), taken: 0, ended };
  fleet.vms.openStream = async () => {
    guest.stream = new Duplex({
      read() {},
      write(chunk: Buffer, _encoding, done) {
        guest.taken += chunk.length;
        take(done);
      },
      final(done) {
        resolve();
        done();
      },
    });
    guest.stream.on('error', () => {});
    if (says !== undefined) {
      guest.stream.push(says);
      guest.stream.push(null);
    }
    return { stream: guest.stream, transport: halfClose ? 'vhost-vsock' : 'vhost-user', halfClose, generation: 1 };
  };
  return guest;
}

async function connected(fleet: FakeFleet): Promise<{ hub: HubConnection; stream: Duplex }> {
  const hub = await connectHub({ hub: fleet.url, token: fleet.token }, { timeoutMs: 10_000 });
  return { hub, stream: (await hub.openStream({ vm: 'web', port: 7 })).stream };
}

function joined(stream: Duplex, stdin: NodeJS.ReadableStream, turns: TerminalTurns): Promise<void> {
  const streams = { stdin, stdout: new PassThrough().resume(), stderr: new PassThrough() };
  return joinTerminal({ env: {}, streams, signal: new AbortController().signal, exitCode: 0 }, stream, turns);
}

async function fileOf(bytes: number): Promise<NodeJS.ReadableStream> {
  const directory = await mkdtemp(join(tmpdir(), 'flc-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  const path = join(directory, 'input');
  await writeFile(path, Buffer.alloc(bytes));
  return createReadStream(path);
}

function pipeOf(bytes: number): PassThrough {
  const pipe = new PassThrough();
  for (let fed = 0; fed < bytes; fed += CHUNK.length) pipe.write(CHUNK);
  return pipe;
}

describe('a guest that ends its own half first', () => {
  test('gets all of a file, and its end', async () => {
    await using fleet = await startFakeFleet();
    const guest = guestOf(fleet, { halfClose: true, says: 'go on' });
    const { hub, stream } = await connected(fleet);
    await using _ = hub;
    await joined(stream, await fileOf(INPUT_BYTES), { inputIdleMs: 0 });
    await guest.ended;
    expect(guest.taken).toBe(INPUT_BYTES);
  });

  test('gets all that comes by a pipe until that ends, however long it pauses meanwhile', async () => {
    await using fleet = await startFakeFleet();
    const guest = guestOf(fleet, { halfClose: true, says: 'go on' });
    const { hub, stream } = await connected(fleet);
    await using _ = hub;
    const stdin = pipeOf(INPUT_BYTES / 2);
    const over = joined(stream, stdin, { inputIdleMs: NEVER_MS });
    await new Promise((resolve) => stream.once('end', resolve));
    stdin.end(Buffer.alloc(INPUT_BYTES / 2));
    await over;
    expect(guest.taken).toBe(INPUT_BYTES);
  });

  test('has all that a pipe has said when that is silent for too long', async () => {
    await using fleet = await startFakeFleet();
    const guest = guestOf(fleet, { halfClose: true, says: 'go on' });
    const { hub, stream } = await connected(fleet);
    await using _ = hub;
    await joined(stream, pipeOf(INPUT_BYTES), { inputIdleMs: IDLE_MS });
    await guest.ended;
    expect(guest.taken).toBe(INPUT_BYTES);
  });

  test('gives a terminal back at once', async () => {
    await using fleet = await startFakeFleet();
    const guest = guestOf(fleet, { halfClose: true, says: 'bye' });
    const { hub, stream } = await connected(fleet);
    await using _ = hub;
    const terminal = Object.assign(new PassThrough(), { isTTY: true });
    terminal.write('logout\n');
    await joined(stream, terminal, { inputIdleMs: NEVER_MS });
    await guest.ended;
    expect(guest.taken).toBe('logout\n'.length);
  });

  // A program that uses the proxy, or a person.
  test.each([false, true])('and takes no more is not waited for by who does not wait (at a terminal: %s)', async (isTTY) => {
    await using fleet = await startFakeFleet();
    guestOf(fleet, { halfClose: true, says: 'bye', take: () => {} });
    const { hub, stream } = await connected(fleet);
    await using _ = hub;
    const stdin = Object.assign(pipeOf(INPUT_BYTES), { isTTY });
    await expect(joined(stream, stdin, { inputIdleMs: 0, takeMs: IDLE_MS })).rejects.toMatchObject({ code: 'TIMEOUT' });
  });

  test('and takes no more of the file is told as such', async () => {
    await using fleet = await startFakeFleet();
    const gone = Object.assign(new Error('write EPIPE'), { code: 'EPIPE' });
    guestOf(fleet, { halfClose: true, says: 'enough', take: (done) => done(gone) });
    const { hub, stream } = await connected(fleet);
    await using _ = hub;
    await expect(joined(stream, await fileOf(INPUT_BYTES), { inputIdleMs: 0 })).rejects.toMatchObject({ code: 'STREAM_RESET' });
  });
});

describe('a guest that takes nothing of its input, and cannot be told of its end', () => {
  // Less than the stream holds, less than the window, and more.
  test.each([1000, 60_000, 180_000])('is told as such: of %d bytes', async (bytes) => {
    await using fleet = await startFakeFleet();
    guestOf(fleet, { halfClose: false, take: () => {} });
    const { hub, stream } = await connected(fleet);
    await using _ = hub;
    const over = joined(stream, await fileOf(bytes), { guestIdleMs: IDLE_MS, takeMs: IDLE_MS, inputIdleMs: 0 });
    await expect(over).rejects.toMatchObject({ code: 'TIMEOUT', message: expect.stringContaining(`${bytes} bytes`) });
  });

  test('is told as such to a local program', async () => {
    await using fleet = await startFakeFleet();
    guestOf(fleet, { halfClose: false, take: () => {} });
    const { hub, stream } = await connected(fleet);
    await using _ = hub;
    const sent = [Buffer.from('one')];
    const local = new Duplex({
      read() {
        this.push(sent.pop() ?? null);
      },
      write: (_chunk, _encoding, done) => done(),
    });
    const { signal } = new AbortController();
    await expect(joinLocal(local, stream, { idleMs: IDLE_MS, takeMs: IDLE_MS, signal })).rejects.toMatchObject({
      code: 'TIMEOUT',
    });
  });

  test('and one that takes all of it and is silent is no error', async () => {
    await using fleet = await startFakeFleet();
    const guest = guestOf(fleet, { halfClose: false });
    const { hub, stream } = await connected(fleet);
    await using _ = hub;
    await joined(stream, await fileOf(INPUT_BYTES), { guestIdleMs: IDLE_MS, inputIdleMs: 0 });
    expect(guest.taken).toBe(INPUT_BYTES);
  });
});
