/** Texts that a server writes to its socket as whole frames: what a WebSocket at the other end reads. */
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { expect, test, vi } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import type { MessageSocket } from '../../shared/line/message-socket.ts';
import { WS_OPTIONS, wsSocket } from '../../shared/node/ws-socket.ts';

/** Around each length at which a frame's header changes. */
const LENGTHS = [0, 1, 124, 125, 126, 127, 4096, 65_534, 65_535, 65_536, 100_000];

async function pair(): Promise<
  AsyncDisposable & { server: MessageSocket; byLibrary: () => number; read: (count: number) => Promise<string[]> }
> {
  const listening = new WebSocketServer({ port: 0, host: '127.0.0.1', ...WS_OPTIONS });
  await once(listening, 'listening');
  const accepted = Promise.withResolvers<{ socket: WebSocket; own: MessageSocket }>();
  listening.on('connection', (socket, request) => accepted.resolve({ socket, own: wsSocket(socket, request.socket) }));
  // SAFETY: it listens on a TCP port.
  const { port } = listening.address() as AddressInfo;
  const client = new WebSocket(`ws://127.0.0.1:${port}/`, WS_OPTIONS);
  const got: string[] = [];
  const arrived = Promise.withResolvers<string[]>();
  let awaited = Number.POSITIVE_INFINITY;
  const look = (): void => {
    if (got.length >= awaited) arrived.resolve(got);
  };
  client.on('message', (data: Buffer, isBinary) => {
    got.push(`${isBinary ? 'binary' : 'text'} ${data.toString()}`);
    look();
  });
  client.on('close', (code) => arrived.reject(new Error(`the line closed with ${code}`)));
  const { socket, own } = await accepted.promise;
  const send = vi.spyOn(socket, 'send');
  return {
    server: own,
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

test('texts of every length and alphabet arrive as they were written, in order with what is binary', async () => {
  await using line = await pair();
  const texts = LENGTHS.flatMap((length) => [
    'a'.repeat(length),
    'é'.repeat(Math.ceil(length / 2)),
    '☃😀'.repeat(Math.ceil(length / 7)),
  ]);
  for (const [index, text] of texts.entries()) {
    line.server.sendText(text);
    line.server.sendBinary([Buffer.from(String(index))]);
  }
  const got = await line.read(2 * texts.length);
  expect(got).toEqual(texts.flatMap((text, index) => [`text ${text}`, `binary ${index}`]));
  // Those that are longer than a header of four bytes can say, and what is binary, are left to the library.
  const long = texts.filter((text) => Buffer.byteLength(text) > 65_535).length;
  expect(line.byLibrary()).toBe(long + texts.length);
});

test('half a character becomes the sign for one that is missing, as the library has it', async () => {
  await using line = await pair();
  line.server.sendText('a\ud83d');
  expect(await line.read(1)).toEqual(['text a\ufffd']);
});
