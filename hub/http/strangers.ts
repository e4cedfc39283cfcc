/**
 * Connections of which nobody has proved anything yet, bounded: a stranger can take up only that much of the hub. One that is too many is
 * cut without an answer, for an answer would cost more.
 */
import type { Socket } from 'node:net';

export class Strangers {
  readonly #max: number;
  /** By address and port: under TLS the connection that was accepted and the one that a request comes from are two objects. */
  readonly #connections = new Map<string, Socket>();

  constructor(max: number) {
    this.#max = max;
  }

  get size(): number {
    return this.#connections.size;
  }

  /** A TCP connection was accepted. False, and it is destroyed, when there are too many. */
  add(socket: Socket): boolean {
    if (this.#connections.size >= this.#max) {
      socket.destroy();
      return false;
    }
    const key = keyOf(socket);
    this.#connections.set(key, socket);
    socket.once('close', () => {
      if (this.#connections.get(key) === socket) this.#connections.delete(key);
    });
    return true;
  }

  /** The connection is somebody's. */
  authenticated(socket: Socket): void {
    this.#connections.delete(keyOf(socket));
  }
}

function keyOf(socket: Socket): string {
  return `${socket.remoteAddress ?? ''} ${socket.remotePort ?? 0}`;
}
