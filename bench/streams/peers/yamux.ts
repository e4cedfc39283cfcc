/**
 * libp2p's yamux. It runs on libp2p's own kind of connection, made here of a TCP socket as libp2p's TCP transport does, and its streams
 * are made into Node's, with the back pressure that they offer both ways.
 */
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { callbackify } from 'node:util';
import { loadPeer } from './installed.ts';
import type { Peer } from './mux.ts';

interface Bytes extends Iterable<Uint8Array> {
  subarray(): Uint8Array;
}

interface MessageEvents {
  addEventListener(name: 'message', listener: (event: { data: Bytes | Uint8Array }) => void): void;
  addEventListener(name: 'close', listener: (event: { error?: Error }) => void): void;
  addEventListener(name: 'remoteCloseWrite', listener: () => void): void;
  addEventListener(name: 'drain', listener: () => void): void;
  removeEventListener(name: 'drain', listener: () => void): void;
}

interface YamuxStream extends MessageEvents {
  send(data: Uint8Array): boolean;
  readonly status: string;
  readonly writeBufferLength: number;
  pause(): void;
  resume(): void;
  close(): Promise<void>;
  abort(error: Error): void;
}

interface Muxer {
  createStream(): Promise<YamuxStream>;
  addEventListener(name: 'stream', listener: (event: { detail: YamuxStream }) => void): void;
}

interface YamuxModule {
  yamux(options: object): () => { createStreamMuxer(connection: object): Muxer };
}

interface Connection {
  onData(data: Uint8Array): void;
  onTransportClosed(error?: Error): void;
  safeDispatchEvent(name: 'drain'): void;
}

interface UtilsModule {
  readonly AbstractMultiaddrConnection: new (options: object) => Connection;
}

interface LoggerModule {
  defaultLogger(): { forComponent(name: string): object };
}

/**
 * Bytes: as ours. With its default of 16 MiB a paused stream is aborted, since what its own window let in is more than the 4 MiB that it
 * keeps, and a slow line takes minutes to drain.
 */
const MAX_WINDOW_BYTES = 1024 ** 2;

export const yamux: Peer = {
  name: 'yamux',
  settings: '@libp2p/yamux 8.0.3; initial window 256 KiB (its default), maxStreamWindowSize 1 MiB, 4096 streams, TCP_NODELAY',
  async load() {
    const { yamux: make } = await loadPeer<YamuxModule>('@libp2p/yamux/dist/src/index.js');
    const connectionOf = await connectionMaker();
    const streamOptions = { maxStreamWindowSize: MAX_WINDOW_BYTES };
    const factory = make({ maxInboundStreams: 4096, maxOutboundStreams: 4096, streamOptions })();
    return {
      async opener(socket) {
        const muxer = factory.createStreamMuxer(connectionOf(socket, 'outbound'));
        return async () => duplexOf(await muxer.createStream());
      },
      async taker(socket, take) {
        const muxer = factory.createStreamMuxer(connectionOf(socket, 'inbound'));
        muxer.addEventListener('stream', ({ detail }) => take(duplexOf(detail)));
      },
    };
  },
};

async function connectionMaker(): Promise<(socket: Socket, direction: 'inbound' | 'outbound') => object> {
  const { AbstractMultiaddrConnection } = await loadPeer<UtilsModule>('@libp2p/utils/dist/src/index.js');
  const { defaultLogger } = await loadPeer<LoggerModule>('@libp2p/logger/dist/src/index.js');
  const log = defaultLogger().forComponent('bench');

  return (socket, direction) =>
    new (class extends AbstractMultiaddrConnection {
      constructor() {
        super({ log, direction, remoteAddr: {} });
        socket.on('data', (data) => this.onData(data));
        socket.on('drain', () => this.safeDispatchEvent('drain'));
        socket.on('close', () => this.onTransportClosed());
      }

      sendData(data: Iterable<Uint8Array>): { sentBytes: number; canSendMore: boolean } {
        let sentBytes = 0;
        let canSendMore = true;
        for (const part of data) {
          sentBytes += part.byteLength;
          canSendMore = socket.write(part);
          if (!canSendMore) break;
        }
        return { sentBytes, canSendMore };
      }

      async sendClose(): Promise<void> {
        socket.end();
      }

      sendReset(): void {
        socket.destroy();
      }

      sendPause(): void {
        socket.pause();
      }

      sendResume(): void {
        socket.resume();
      }
    })();
}

/**
 * Until all that the stream took has gone out. Its own `onDrain()` waits the first time only, since it keeps the promise that it resolved,
 * and the event comes to every stream whenever the connection drains: waiting for either alone lets a sender queue without bound.
 */
function drained(stream: YamuxStream): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  // What waits goes on in a microtask after the event.
  const onDrain = (): void => void setImmediate(() => stream.writeBufferLength === 0 && resolve());
  stream.addEventListener('drain', onDrain);
  return promise.finally(() => stream.removeEventListener('drain', onDrain));
}

function duplexOf(stream: YamuxStream): Duplex {
  let wantsMore = true;
  const duplex = new Duplex({
    write: callbackify(async (chunk: Uint8Array, _encoding: string) => {
      if (!stream.send(chunk)) await drained(stream);
    }),
    final: callbackify(() => stream.close()),
    read() {
      wantsMore = true;
      if (stream.status === 'open') stream.resume();
    },
    destroy(error, done) {
      if (error !== null) stream.abort(error);
      done(error);
    },
  });
  stream.addEventListener('message', ({ data }) => {
    wantsMore = duplex.push(data instanceof Uint8Array ? data : data.subarray());
    // Later, since `resume()` hands out what it kept before it gives credit: a pause in between is forgotten, and the sender goes on.
    if (!wantsMore) queueMicrotask(() => !wantsMore && stream.status === 'open' && stream.pause());
  });
  stream.addEventListener('remoteCloseWrite', () => duplex.push(null));
  stream.addEventListener('close', ({ error }) => duplex.destroy(error));
  return duplex;
}
