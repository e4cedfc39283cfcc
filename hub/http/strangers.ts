/**
 * Connections of which nobody has proved anything yet, bounded: a stranger can take up only that much of the hub. When there are too many,
 * the oldest is cut if it has had more time than a handshake takes, and the newest else, without an answer, for an answer would cost more.
 * So whoever only holds connections open keeps nobody out, and a fleet that comes back at once is not cut in the middle of its handshakes.
 */
import type { Socket } from 'node:net';
import type { Clock } from '../../shared/clock.ts';

/** More than an honest handshake takes, on a slow line too, if the hub has time for it. */
const HANDSHAKE_MS = 2000;
/** Times that a handshake waits for the hub's own turn. */
const TURNS = 4;

export class Strangers {
  readonly #max: number;
  /** By address and port: under TLS the connection that was accepted and the one that a request comes from are two objects. */
  readonly #connections = new Map<string, { readonly socket: Socket; readonly sinceMs: number }>();
  readonly #clock: Clock;
  readonly #lagMs: () => number;

  /** `lagMs` is how far the hub is behind: that much of a handshake is its own doing. */
  constructor(max: number, clock: Clock, lagMs: () => number) {
    this.#max = max;
    this.#clock = clock;
    this.#lagMs = lagMs;
  }

  get size(): number {
    return this.#connections.size;
  }

  /** A TCP connection was accepted. False, and it is destroyed, when there are too many. */
  add(socket: Socket): boolean {
    if (this.#connections.size >= this.#max && !this.#dropOldest()) {
      socket.destroy();
      return false;
    }
    const key = keyOf(socket);
    this.#connections.set(key, { socket, sinceMs: this.#clock.now() });
    socket.once('close', () => {
      if (this.#connections.get(key)?.socket === socket) this.#connections.delete(key);
    });
    return true;
  }

  /** False when even the oldest may still be in its handshake. */
  #dropOldest(): boolean {
    const [oldest] = this.#connections;
    const honestMs = HANDSHAKE_MS + TURNS * this.#lagMs();
    if (oldest === undefined || this.#clock.now() - oldest[1].sinceMs < honestMs) return false;
    this.#connections.delete(oldest[0]);
    oldest[1].socket.destroy();
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
