/** Messages that are put together of parts: where, and when the place is used again. */
import { EventEmitter } from 'node:events';
import type { Writable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import type { WebSocket } from 'ws';
import type { MessageSocket } from '../../shared/line/message-socket.ts';
import { belowServer, type KernelQueue, wsSocket } from '../../shared/node/ws-socket.ts';

/** A WebSocket that keeps what it is sent until it is told that the kernel took it. */
class KeepingWebSocket extends EventEmitter {
  readonly OPEN = 1;
  readyState = 1;
  bufferedAmount = 0;
  readonly kept: { readonly bytes: Uint8Array; readonly sent: () => void }[] = [];
  readonly #takesAtOnce: boolean;

  constructor({ takesAtOnce }: { readonly takesAtOnce: boolean }) {
    super();
    this.#takesAtOnce = takesAtOnce;
  }

  send(bytes: Uint8Array, sent: () => void): void {
    if (!this.#takesAtOnce) this.bufferedAmount += bytes.length;
    this.kept.push({ bytes, sent });
  }
}

function sender(options: { readonly takesAtOnce: boolean }) {
  const socket = new KeepingWebSocket(options);
  // SAFETY: it has what wsSocket uses while nothing is received or closed.
  const own = wsSocket(socket as unknown as WebSocket);
  let sentCount = 0;
  /** A message that says in each byte which one it is. */
  const send = (): void => {
    sentCount += 1;
    own.sendBinary([new Uint8Array(8).fill(sentCount), new Uint8Array(16 * 1024).fill(sentCount)]);
  };
  const isWhole = (index: number): boolean => socket.kept[index]?.bytes.every((byte) => byte === index + 1) ?? false;
  const placeOf = (index: number): ArrayBufferLike | undefined => socket.kept[index]?.bytes.buffer;
  return { socket, send, isWhole, placeOf };
}

describe('a long part', () => {
  /** What is written beneath the WebSocket, as it was handed over. */
  function below() {
    const written: Uint8Array[] = [];
    const socket = { cork() {}, uncork() {}, write: (bytes: Uint8Array) => written.push(bytes) };
    // SAFETY: both have what wsSocket uses while nothing is received or closed.
    const own = wsSocket(
      new KeepingWebSocket({ takesAtOnce: true }) as unknown as WebSocket,
      belowServer(socket as unknown as Writable),
    );
    return { own, written };
  }

  test('that comes first is not copied, with a PING behind it or without', () => {
    const { own, written } = below();
    const [data, ping] = [new Uint8Array(64 * 1024), new Uint8Array(16)];
    own.sendBinary([data]);
    own.sendBinary([data, ping]);
    expect(written.map(({ length }) => length)).toEqual([10, data.length, 10, data.length, ping.length]);
    expect([written[1], written[3], written[4]]).toEqual([data, data, ping]);
    expect([written[1] === data, written[3] === data]).toEqual([true, true]);
  });

  test('that many small ones follow is put together with them', () => {
    const { own, written } = below();
    own.sendBinary([new Uint8Array(16 * 1024), ...Array.from({ length: 100 }, () => new Uint8Array(9))]);
    expect(written.map(({ length }) => length)).toEqual([4 + 16 * 1024 + 900]);
  });

  test('that comes behind a header is put together with it', () => {
    const { own, written } = below();
    own.sendBinary([new Uint8Array(8), new Uint8Array(16 * 1024)]);
    expect(written.map(({ length }) => length)).toEqual([4 + 8 + 16 * 1024]);
  });
});

describe('a message of several parts', () => {
  test('is left alone until the kernel has taken it, however many follow, and its place is used again then', () => {
    const { socket, send, isWhole, placeOf } = sender({ takesAtOnce: false });
    for (let message = 0; message < 100; message++) send();
    for (let message = 0; message < 100; message++) expect(isWhole(message)).toBe(true);
    socket.kept[0]?.sent();
    send();
    expect(placeOf(100)).toBe(placeOf(0));
    for (let message = 1; message <= 100; message++) expect(isWhole(message)).toBe(true);
  });

  test('gives its place to the next one where the kernel took it at once, and does not give it twice', () => {
    const { socket, send, placeOf } = sender({ takesAtOnce: true });
    send();
    send();
    expect(placeOf(1)).toBe(placeOf(0));
    for (const { sent } of socket.kept) sent();
    // From here on it takes nothing at once: two messages that wait must not lie in one place.
    const waiting = sender({ takesAtOnce: false });
    for (let message = 0; message < 20; message++) waiting.send();
    expect(new Set(Array.from({ length: 20 }, (_, message) => waiting.placeOf(message))).size).toBe(20);
    for (let message = 0; message < 20; message++) expect(waiting.isWhole(message)).toBe(true);
  });
});

describe('what the kernel holds', () => {
  const open = (kernel: Promise<KernelQueue | undefined>): MessageSocket => {
    const socket = new KeepingWebSocket({ takesAtOnce: true });
    socket.bufferedAmount = 7;
    // SAFETY: it has what wsSocket uses while nothing is received or closed.
    return wsSocket(socket as unknown as WebSocket, undefined, kernel);
  };

  test('counts once somebody can tell', async () => {
    const kernel = Promise.resolve({ bytes: 5, whenBelow: () => {} });
    const socket = open(kernel);
    expect(socket.bufferedBytes).toBe(7);
    await kernel;
    expect(socket.bufferedBytes).toBe(12);
  });

  test('does not end the process where who should tell cannot be loaded', async () => {
    const rejections: unknown[] = [];
    const onRejection = (reason: unknown): unknown => rejections.push(reason);
    process.on('unhandledRejection', onRejection);
    const socket = open(Promise.reject(new Error('no such module')));
    // Node tells of a rejection after the microtasks of the turn in which it happened.
    await new Promise(setImmediate);
    process.off('unhandledRejection', onRejection);
    expect(rejections).toEqual([]);
    expect(socket.bufferedBytes).toBe(7);
  });
});
