/**
 * Symptom: of 2,000 streams that a program opened into one guest at once 1,744 were refused: the guest "owes the answer to 256 connections: it
 * is paused or stuck". It was not; it had not had the time to answer.
 * Cause: connections without an answer were counted, and not waited for, whether somebody still waited for them or not.
 */
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { DaemonQuiet } from '../../agent/streams/daemon-quiet.ts';
import { VhostUserDialler } from '../../agent/streams/vhost-user-dial.ts';
import { shortDirectory } from '../support/vsock-guest.ts';

const CONNECTIONS = 1000;
/** As agent/streams/vhost-user-dial.ts has it. */
const MOST_UNANSWERED = 256;
const LONG_MS = 60_000;
/** Turns of the event loop in which what can happen does. */
const TURNS = 100;

let scope: AsyncDisposableStack;
let quiet: DaemonQuiet;
let dialler: VhostUserDialler;
/** The daemon's ends, in order, each with its request read. */
let asked: Socket[];
let onAsked: () => void;

beforeEach(async () => {
  scope = new AsyncDisposableStack();
  const directory = scope.use(await shortDirectory());
  const udsPath = join(directory.path, 'vs');
  asked = [];
  onAsked = () => {};
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => {});
    scope.defer(() => void socket.destroy());
    socket.once('data', () => {
      asked.push(socket);
      onAsked();
    });
  });
  server.listen(udsPath);
  await once(server, 'listening');
  scope.defer(() => void server.close());
  quiet = new DaemonQuiet();
  dialler = new VhostUserDialler({ vm: 'web', udsPath, quiet });
});
afterEach(() => scope.disposeAsync());

const dial = async (port: number, timeoutMs = LONG_MS, signal?: AbortSignal): Promise<Socket> => {
  const socket = await dialler.dial({ port, timeoutMs, signal });
  scope.defer(() => void socket.destroy());
  return socket;
};
const someTurns = async (): Promise<void> => {
  for (let passed = 0; passed < TURNS; passed += 1) await turn();
};
const untilAsked = (count: number): Promise<void> => expect.poll(() => asked.length).toBe(count);
const answerAll = (): void => {
  for (const socket of asked) if (socket.writable && socket.bytesWritten === 0) socket.write('OK 1\n');
};

test(`${CONNECTIONS} connections at once are all made, and never more than ${MOST_UNANSWERED} are owed an answer`, async () => {
  const dials = Array.from({ length: CONNECTIONS }, () => dial(7));
  const settled = Promise.allSettled(dials);
  await untilAsked(MOST_UNANSWERED);
  await someTurns();
  expect(asked).toHaveLength(MOST_UNANSWERED);
  onAsked = answerAll;
  answerAll();
  const failed = (await settled).filter(({ status }) => status === 'rejected');
  expect(failed).toEqual([]);
  expect(asked).toHaveLength(CONNECTIONS);
});

test('who waits for a turn gives up in time, or when it is cancelled, and takes none', async () => {
  const first = Array.from({ length: MOST_UNANSWERED }, () => dial(7));
  await untilAsked(MOST_UNANSWERED);
  await expect(dial(8, 20)).rejects.toMatchObject({
    code: 'GUEST_UNREACHABLE',
    message: `guest web did not answer on vsock port 8 within 20 ms: it owes the answer to ${MOST_UNANSWERED} others`,
  });
  const abort = new AbortController();
  const cancelled = dial(8, LONG_MS, abort.signal);
  abort.abort(new Error('enough'));
  await expect(cancelled).rejects.toThrow('enough');
  answerAll();
  await Promise.all(first);
  await someTurns();
  expect(asked).toHaveLength(MOST_UNANSWERED);
});

test('one that was given up is taken up by who waits for the same port', async () => {
  const others = Array.from({ length: MOST_UNANSWERED - 1 }, () => dial(7));
  const givenUp = dial(8, 20).catch((error: unknown) => error);
  const next = dial(8);
  expect(await givenUp).toMatchObject({ code: 'GUEST_UNREACHABLE' });
  await untilAsked(MOST_UNANSWERED);
  answerAll();
  await Promise.all([...others, next]);
  expect(asked).toHaveLength(MOST_UNANSWERED);
});

test('no turn comes while the daemon is to be left in peace', async () => {
  const dials = Array.from({ length: MOST_UNANSWERED + 1 }, () => dial(7));
  await untilAsked(MOST_UNANSWERED);
  quiet.begin('paused');
  answerAll();
  await Promise.all(dials.slice(0, MOST_UNANSWERED));
  await someTurns();
  expect(asked).toHaveLength(MOST_UNANSWERED);
  onAsked = answerAll;
  quiet.end('paused');
  await dials.at(-1);
});
