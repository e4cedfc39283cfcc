/** How much of what a program sent lies unsent in the kernel, where nothing can overtake it any more. */
import type { Socket } from 'node:net';
import type { NativeApi } from './api.ts';
import { loadNative } from './index.ts';
import { socketFd } from './socket-fd.ts';

/** Bytes that the kernel takes beyond what is on its way (tcp(7), TCP_NOTSENT_LOWAT), until more is known of the line. */
const FIRST_LIMIT_BYTES = 64 * 1024;
/** A limit that is to grow by less than this part is not worth a call to the kernel. */
const TOLERANCE = 1 / 8;

/** What lies unsent of one TCP connection, or of the one below a TLS socket. */
export class Unsent {
  readonly #api: NativeApi;
  readonly #socket: Socket;
  readonly #fd: number;
  #limitBytes = FIRST_LIMIT_BYTES;
  #waitId: number | undefined;
  /** Waiting has failed: it is as if there were no add-on. */
  #isBlind = false;

  constructor(api: NativeApi, socket: Socket) {
    this.#api = api;
    this.#socket = socket;
    this.#fd = socketFd(socket);
    api.setNotsentLowat(this.#fd, FIRST_LIMIT_BYTES);
    // What waits holds the connection open.
    socket.once('close', () => {
      if (this.#waitId !== undefined) api.cancelSendable(this.#waitId);
    });
  }

  get bytes(): number {
    return this.#isBlind || this.#socket.destroyed ? 0 : this.#api.getNotsent(this.#fd);
  }

  /**
   * Calls once less than `bytes` lie unsent; until then, a second call is none. The kernel takes no more than twice as much from now on, and
   * what makes one segment. Never calls once the socket is destroyed or ended: nothing more can be sent, and an ended one is always sendable to the
   * kernel, however much lies unsent.
   */
  whenBelow(bytes: number, onBelow: () => void): void {
    if (this.#waitId !== undefined || this.#isBlind || this.#isOver) return;
    try {
      this.#limit(2 * Math.floor(bytes));
      const { id, promise } = this.#api.waitSendable(this.#fd);
      this.#waitId = id;
      promise.then(
        (isSendable) => this.#settled(isSendable, onBelow),
        () => this.#giveUp(onBelow),
      );
    } catch {
      // Out of descriptors, say. The line goes on with what Node tells of the socket.
      this.#giveUp(onBelow);
    }
  }

  get #isOver(): boolean {
    return this.#socket.destroyed || this.#socket.writableEnded;
  }

  /** The kernel takes no more than that from now on, and what makes one segment. */
  #limit(bytes: number): void {
    if (bytes >= this.#limitBytes && bytes < this.#limitBytes * (1 + TOLERANCE)) return;
    this.#api.setNotsentLowat(this.#fd, bytes);
    this.#limitBytes = bytes;
  }

  #settled(isSendable: boolean, onBelow: () => void): void {
    this.#waitId = undefined;
    if (isSendable && !this.#isOver) onBelow();
  }

  #giveUp(onBelow: () => void): void {
    this.#isBlind = true;
    this.#waitId = undefined;
    queueMicrotask(onBelow);
  }
}

/** Gives what tells of one socket's unsent bytes, or says why there is none: control calls may then wait behind bulk data. */
export function watchUnsent(socket: Socket): Unsent | { readonly reason: string } {
  const native = loadNative();
  if (!native.available) return native;
  try {
    return new Unsent(native.api, socket);
  } catch (error) {
    return { reason: String(error) };
  }
}
