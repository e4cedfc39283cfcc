/** Texts that are written to the socket as whole frames: what a WebSocket at the other end reads. */
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
    [Symbol.asyncDispose]: async () => {
      arrived.promise.catch(() => {});
      client.terminate();
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
    // Those that are longer than a header of four bytes can say, and what is binary, are left to the library.
    const long = texts.filter((text) => Buffer.byteLength(text) > 65_535).length;
    expect(line.byLibrary()).toBe(long + texts.length);
  },
);

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
