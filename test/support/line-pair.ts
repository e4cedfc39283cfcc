/** Lines over real WebSockets on loopback: a server whose every connection becomes a line, and diallers to it. */
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { type WebSocket as Socket, WebSocket, WebSocketServer } from 'ws';
import { Line } from '../../shared/line/line.ts';
import type { LineHandlers } from '../../shared/line/types.ts';
import { WS_OPTIONS, wsSocket } from '../../shared/node/ws-socket.ts';

const HELLO = { contract: 1, software: 'test/1' } as const;

export class LineServer implements AsyncDisposable {
  readonly #server: WebSocketServer;
  readonly #sockets: Socket[] = [];
  /** Lines accepted, in order of their paths' first use. */
  readonly lines = new Map<string, Line>();

  private constructor(server: WebSocketServer, handlersFor: (path: string, server: LineServer) => LineHandlers) {
    this.#server = server;
    server.on('connection', (socket, request) => {
      this.#sockets.push(socket);
      const path = request.url ?? '/';
      const line = new Line({
        socket: wsSocket(socket),
        role: 'acceptor',
        hello: { ...HELLO, role: 'hub' },
        handlers: handlersFor(path, this),
      });
      this.lines.set(path, line);
    });
  }

  static async start(handlersFor: (path: string, server: LineServer) => LineHandlers): Promise<LineServer> {
    const server = new WebSocketServer({ port: 0, host: '127.0.0.1', ...WS_OPTIONS });
    await once(server, 'listening');
    return new LineServer(server, handlersFor);
  }

  get url(): string {
    // SAFETY: it listens on a TCP port.
    return `ws://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  line(path: string): Line {
    const line = this.lines.get(path);
    if (line === undefined) throw new Error(`nobody dialled ${path}`);
    return line;
  }

  /** A bare WebSocket to the server. */
  async socket(path: string): Promise<Socket> {
    const socket = new WebSocket(`${this.url}${path}`, WS_OPTIONS);
    this.#sockets.push(socket);
    await once(socket, 'open');
    return socket;
  }

  async dial(path: string, handlers: LineHandlers): Promise<Line> {
    const socket = new WebSocket(`${this.url}${path}`, WS_OPTIONS);
    this.#sockets.push(socket);
    const messages = wsSocket(socket);
    await once(socket, 'open');
    const line = new Line({ socket: messages, role: 'dialer', hello: { ...HELLO, role: 'agent' }, handlers });
    await line.ready;
    return line;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.terminate();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
