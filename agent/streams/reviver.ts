/**
 * Frees a connection that vhost-device-vsock 0.3.0 has jammed (stopped-stream.ts): the input that waits in the daemon's end of its socket is
 * lifted out for a moment, in which the daemon finds nothing to read and hands on what it kept of the guest's output, and is put back in
 * its order. One at a time for each daemon, and with a rest after it, since it holds up this thread for some milliseconds.
 *
 * Only while the daemon's worker is at work: the guest of a jammed connection is asked for room, and answers, again and again. Where the
 * worker sleeps, it is the guest that stands still, and may go on between the moment that the worker has found input and that in which it
 * reads it; finding nothing then, it would not come back for what is put there afterwards.
 */
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { loadNative, requireNative } from '../../native/index.ts';
import { socketFd } from '../../native/socket-fd.ts';
import type { ProcessIdentity } from '../process-identity.ts';
import { isWorkerAtWork } from './daemon-threads.ts';

/** A socket holds 208 KiB, where the host's settings are as Linux has them. */
const MAX_LIFT_BYTES = 8 * 1024 ** 2;
/** The daemon takes less than a millisecond, or waits for its turn on a busy machine. */
const LIFT_MS = 5;
/** Of this thread's time, at most a tenth. */
const REST_FACTOR = 9;

export type RevivalResult =
  /** The daemon handed something on. */
  | 'revived'
  /** It had nothing to hand on: the guest does not read, or the daemon had no time. */
  | 'idle'
  /** Not tried: it moves, or is to be left alone. */
  | 'left'
  /** Not tried: the worker sleeps. */
  | 'asleep'
  /** The end of what was written is lost. */
  | 'broken'
  | { readonly cannot: string };

export interface Lift {
  /** Why there is none. */
  readonly unavailable?: string | undefined;
  /** Memory that holds what the daemon has not read of this connection, in bytes. Throws where it cannot be known. */
  untaken(socket: Socket): number;
  /** `liftPeerInput` of native/binding.ts. */
  lift(socket: Socket, pid: number): { readonly takenBytes: number; readonly returnedBytes: number; readonly cameBytes: number };
}

export interface ReviverOptions {
  readonly daemon: ProcessIdentity;
  readonly lift?: Lift | undefined;
  readonly isAtWork?: (daemon: ProcessIdentity) => Promise<boolean>;
  /** The daemon is given something to do. */
  readonly onTry?: () => void;
}

export class Reviver {
  readonly #options: Required<Omit<ReviverOptions, 'lift'>> & { readonly lift: Lift };
  #turn: Promise<unknown> = Promise.resolve();

  constructor({ daemon, lift = NATIVE_LIFT, isAtWork = isWorkerAtWork, onTry = () => {} }: ReviverOptions) {
    this.#options = { daemon, lift, isAtWork, onTry };
  }

  /** Why no connection can be revived here, if so. */
  get unavailable(): string | undefined {
    return this.#options.lift.unavailable;
  }

  /** 0 where nothing waits, or it cannot be known. */
  untaken(socket: Socket): number {
    try {
      return this.#options.lift.untaken(socket);
    } catch {
      // No add-on, of which `unavailable` tells, or closed by now.
      return 0;
    }
  }

  /** `isStill` is asked when its turn has come, and once more in the moment before. Never rejects. */
  revive(socket: Socket, isStill: () => boolean): Promise<RevivalResult> {
    const result = this.#turn.then(() => this.#revive(socket, isStill));
    this.#turn = result.then(({ tookMs }) => sleep(REST_FACTOR * tookMs, undefined, { ref: false }));
    return result.then(({ is }) => is);
  }

  async #revive(socket: Socket, isStill: () => boolean): Promise<{ readonly is: RevivalResult; readonly tookMs: number }> {
    const { daemon, lift, isAtWork, onTry } = this.#options;
    if (!isStill()) return { is: 'left', tookMs: 0 };
    if (!(await isAtWork(daemon))) return { is: 'asleep', tookMs: 0 };
    if (!isStill()) return { is: 'left', tookMs: 0 };
    onTry();
    const beganAt = performance.now();
    let is: RevivalResult;
    try {
      const { takenBytes, returnedBytes, cameBytes } = lift.lift(socket, daemon.pid);
      if (returnedBytes < takenBytes) is = 'broken';
      else if (takenBytes === 0) is = 'left';
      else is = cameBytes > 0 ? 'revived' : 'idle';
    } catch (error) {
      is = { cannot: error instanceof Error ? error.message : String(error) };
    }
    return { is, tookMs: performance.now() - beganAt };
  }
}

const NATIVE_LIFT: Lift = {
  get unavailable() {
    const native = loadNative();
    return native.available ? undefined : native.reason;
  },
  untaken: (socket) => requireNative().getUntaken(socketFd(socket)),
  lift: (socket, pid) => requireNative().liftPeerInput(socketFd(socket), pid, MAX_LIFT_BYTES, LIFT_MS),
};
