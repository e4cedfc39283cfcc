/** Messages that are written to the socket as whole frames: what a WebSocket at the other end reads. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { PassThrough } from 'node:stream';
import { expect, test, vi } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import type { MessageSocket } from '../../shared/line/message-socket.ts';
import { type Below, belowClient, belowServer, maskOptions, WS_OPTIONS, wsSocket } from '../../shared/node/ws-socket.ts';

/** Around each length at which a frame's header changes. */
const LENGTHS = [0, 1, 124, 125, 126, 127, 4096, 65_534, 65_535, 65_536, 100_000];

type Side = 'server' | 'client';
const SIDES: readonly Side[] = ['server', 'client'];

interface Pair extends AsyncDisposable {
  readonly writer: MessageSocket;
  /** Messages that the library was given to send. */
  readonly byLibrary: () => number;
  readonly read: (count: number) => Promise<string[]>;
  /** The other end reads no more, until `goOn`. */
  readonly stop: () => void;
  readonly goOn: () => void;
}

/** A connection, and its writer as a hub has it at a server, and an operator or an agent at a client. */
async function pair(side: Side): Promise<Pair> {
  const listening = new WebSocketServer({ port: 0, host: '127.0.0.1', ...WS_OPTIONS });
  await once(listening, 'listening');
  const accepted = Promise.withResolvers<{ socket: WebSocket; below: Below | undefined }>();
  const dialled = Promise.withResolvers<{ socket: WebSocket; below: Below | undefined }>();
  listening.on('connection', (socket, request) => accepted.resolve({ socket, below: belowServer(request.socket) }));
  // SAFETY: it listens on a TCP port.
  const { port } = listening.address() as AddressInfo;
  const url = new URL(`ws://127.0.0.1:${port}/`);
  const client = new WebSocket(url, { ...WS_OPTIONS, ...maskOptions(url) });
  client.once('upgrade', ({ socket: tcp }) => {
    client.once('open', () => dialled.resolve({ socket: client, below: belowClient(url, tcp) }));
  });
  const ends = { server: await accepted.promise, client: await dialled.promise };
  const { socket, below } = ends[side];
  const reader = side === 'server' ? client : ends.server.socket;
  const got: string[] = [];
  const arrived = Promise.withResolvers<string[]>();
  let awaited = Number.POSITIVE_INFINITY;
  const look = (): void => {
    if (got.length >= awaited) arrived.resolve(got);
  };
  reader.on('message', (data: Buffer, isBinary) => {
    got.push(`${isBinary ? 'binary' : 'text'} ${data.toString()}`);
    look();
  });
  reader.on('close', (code) => arrived.reject(new Error(`the line closed with ${code}`)));
  const send = vi.spyOn(socket, 'send');
  return {
    writer: wsSocket(socket, below),
    byLibrary: () => send.mock.calls.length,
    read: (count) => {
      awaited = count;
      look();
      return arrived.promise;
    },
    stop: () => reader.pause(),
    goOn: () => reader.resume(),
    [Symbol.asyncDispose]: async () => {
      arrived.promise.catch(() => {});
      client.terminate();
      ends.server.socket.terminate();
      await new Promise((resolve) => listening.close(resolve));
    },
  };
}

test.each(SIDES)(
  'texts of every length and alphabet arrive from a %s as they were written, in order with what is binary',
  async (side) => {
    await using line = await pair(side);
    const texts = LENGTHS.flatMap((length) => [
      'a'.repeat(length),
      'é'.repeat(Math.ceil(length / 2)),
      '☃😀'.repeat(Math.ceil(length / 7)),
    ]);
    for (const [index, text] of texts.entries()) {
      line.writer.sendText(text);
      line.writer.sendBinary([Buffer.from(String(index))]);
    }
    const got = await line.read(2 * texts.length);
    expect(got).toEqual(texts.flatMap((text, index) => [`text ${text}`, `binary ${index}`]));
    // Those that are longer than a length of 16 bits can say are left to the library.
    expect(line.byLibrary()).toBe(texts.filter((text) => Buffer.byteLength(text) > 65_535).length);
  },
);

test.each(SIDES)('binary messages of every length arrive from a %s, whether in one part or in several', async (side) => {
  await using line = await pair(side);
  const messages = [...LENGTHS, 16 * 1024, 200_000]
    .filter((length) => length > 0)
    .map((length) => randomBytes(length).toString('hex').slice(0, length));
  for (const message of messages) {
    const bytes = Buffer.from(message);
    const [a, b] = [Math.floor(bytes.length / 3), Math.floor(bytes.length / 2)];
    line.writer.sendBinary([bytes]);
    line.writer.sendBinary([bytes.subarray(0, a), bytes.subarray(a, b), bytes.subarray(b)]);
    line.writer.sendText(message);
  }
  const got = await line.read(3 * messages.length);
  expect(got).toEqual(messages.flatMap((message) => [`binary ${message}`, `binary ${message}`, `text ${message}`]));
});

test.each(SIDES)('what waits for a reader of a %s stays as it was, while others are sent to and one is gone', async (side) => {
  await using waiting = await pair(side);
  await using other = await pair(side);
  const gone = await pair(side);
  waiting.stop();
  gone.stop();
  const messages = Array.from({ length: 200 }, (_, index) => `${index} ${String(index % 10).repeat(65_000)}`);
  for (const message of messages) {
    const bytes = Buffer.from(message);
    for (const { writer } of [waiting, gone, other]) writer.sendBinary([bytes.subarray(0, 5), bytes.subarray(5)]);
  }
  // More than the kernel takes, so that memory is used again from here on.
  expect(waiting.writer.bufferedBytes).toBeGreaterThan(0);
  gone.writer.terminate();
  await gone[Symbol.asyncDispose]();
  for (const message of messages) other.writer.sendBinary([Buffer.from('again '), Buffer.from(message)]);
  const all = messages.map((message) => `binary ${message}`);
  expect(await other.read(2 * messages.length)).toEqual([...all, ...messages.map((message) => `binary again ${message}`)]);
  waiting.goOn();
  expect(await waiting.read(messages.length)).toEqual(all);
});

test.each(SIDES)('half a character from a %s becomes the sign for one that is missing, as the library has it', async (side) => {
  await using line = await pair(side);
  line.writer.sendText('a\ud83d');
  expect(await line.read(1)).toEqual(['text a\ufffd']);
});

test('a client whose masks hide something leaves its texts to the library', () => {
  const url = new URL('ws://hub.example.org/rpc');
  expect(maskOptions(url)).toEqual({});
  expect(belowClient(url, new PassThrough())).toBeUndefined();
});
