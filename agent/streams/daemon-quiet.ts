/**
 * Times in which vhost-device-vsock 0.3.0 must be left in peace. While the guest is paused, and from a reset until its driver is back,
 * QEMU has stopped the device's rings; a connection made, closed, written to or read from meanwhile ends the daemon's worker without a
 * word, and the VM's vsock is dead for good (tried on QEMU 7.2: a dial, a close, 100 bytes; each alone is enough, and so is reading what
 * the guest had more to say than the socket holds).
 *
 *     loud ── paused, reset, plugged in ──▶ quiet ── resumed (ends the pause), the guest dialled or its driver is up (ends the reset) ──▶ loud
 *
 * While it is quiet, what is written waits in its stream, what comes waits in its socket, and a stream that is destroyed is gone for its
 * user but keeps its descriptor; all of it is made up for afterwards, in order. What is under way when the quiet begins cannot be held
 * back, and a guest that talks on is silent only when the sockets are full; so a pause and a reset that are asked for `settle` before;
 * those that the guest makes by itself cannot.
 */
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/** The daemon says nothing of what it has done; on a busy machine it takes some milliseconds to come to it. */
const SETTLE_MS = 50;
/** In which a pause or a reset comes that `settle` was asked for. */
const SETTLED_MS = 1_000;

export interface DaemonQuietOptions {
  /** Resolves when the daemon does nothing any more, as far as can be known; soon in any case. */
  readonly atRest?: () => Promise<void>;
}

export type QuietReason = 'paused' | 'reset';

export class DaemonQuiet {
  readonly #reasons = new Set<QuietReason>();
  #held: (() => void)[] = [];
  /** Resolves at the end of the quiet. */
  #loud = Promise.withResolvers<void>();
  #touchedAt = Number.NEGATIVE_INFINITY;
  #settledUntil = Number.NEGATIVE_INFINITY;
  readonly #atRest: () => Promise<void>;

  constructor({ atRest = () => Promise.resolve() }: DaemonQuietOptions = {}) {
    this.#atRest = atRest;
  }

  /** Why it is quiet; undefined when it is not. */
  get reason(): QuietReason | undefined {
    return [...this.#reasons].at(0);
  }

  /** What need not be done now is not to be begun: it is quiet, or about to be. */
  get isSettled(): boolean {
    return this.reason !== undefined || performance.now() < this.#settledUntil;
  }

  begin(reason: QuietReason): void {
    if (this.#reasons.size === 0) this.#loud = Promise.withResolvers();
    this.#reasons.add(reason);
  }

  /** Resolves at the end of the quiet, or at once where there is none. */
  async over(): Promise<void> {
    while (this.#reasons.size > 0) await this.#loud.promise;
  }

  end(reason: QuietReason): void {
    this.#reasons.delete(reason);
    if (this.#reasons.size === 0) this.#release();
  }

  /** Something was asked of the daemon, or came from it, just now. */
  touch(): void {
    this.#touchedAt = performance.now();
  }

  /** Resolves when the daemon has had its time for what was last asked of it, and a guest that was talking has been stopped by its silence. */
  async settle(): Promise<void> {
    const leftMs = this.#touchedAt + SETTLE_MS - performance.now();
    this.#settledUntil = performance.now() + SETTLED_MS;
    if (leftMs <= 0) return;
    await sleep(leftMs);
    this.#settledUntil = Number.POSITIVE_INFINITY;
    await this.#atRest();
    this.#settledUntil = performance.now() + SETTLED_MS;
  }

  /** The daemon is gone, and there is nobody left to spare. */
  endAll(): void {
    this.#reasons.clear();
    this.#release();
  }

  /** Every connected socket of the daemon goes through this once. */
  guard(socket: Socket): Socket {
    const write = socket._write.bind(socket);
    const writev = socket._writev?.bind(socket);
    const destroy = socket._destroy.bind(socket);
    const read = socket._read.bind(socket);
    const push = socket.push.bind(socket);
    socket._read = (size) => this.#hold(() => read(size));
    // A socket that is told that nobody takes more stops reading, until it is asked to read again.
    socket.push = (chunk: unknown, encoding?: BufferEncoding): boolean => {
      this.touch();
      return push(chunk, encoding) && this.reason === undefined;
    };
    socket._write = (chunk, encoding, done) => this.#hold(() => write(chunk, encoding, done));
    if (writev !== undefined) socket._writev = (chunks, done) => this.#hold(() => writev(chunks, done));
    socket._destroy = (error, done) => {
      if (this.reason === undefined) return this.#hold(() => destroy(error, done));
      socket.pause();
      // Whoever ends this process meanwhile is not to wait for the guest.
      socket.unref();
      this.#hold(() => {
        socket.removeAllListeners('close'); // they were told already
        destroy(null, () => {});
      });
      done(error);
      // A socket says 'close' when its descriptor is closed; its user is not to wait for that.
      process.nextTick(() => socket.emit('close', error !== null));
    };
    return socket;
  }

  #hold(action: () => void): void {
    if (this.reason !== undefined) return void this.#held.push(action);
    this.touch();
    action();
  }

  #release(): void {
    this.#loud.resolve();
    if (this.#held.length > 0) this.touch();
    for (const action of this.#held.splice(0)) action();
  }
}
