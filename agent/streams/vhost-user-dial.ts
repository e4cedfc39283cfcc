/**
 * Connections through the daemon's unix socket: `CONNECT port\n`, then `OK …\n` from the guest's side, then the bytes.
 *
 * What vhost-device-vsock 0.3.0 answers, each tried:
 *   nothing listens in the guest            end of file without OK          → GUEST_REFUSED
 *   no driver in the guest, or no QEMU      EPIPE or ECONNRESET             → GUEST_UNREACHABLE
 *   guest paused or stuck                   nothing, until it goes on       → GUEST_UNREACHABLE after the timeout
 *   daemon gone                             ECONNREFUSED or ENOENT          → GUEST_UNREACHABLE
 *
 * It panics, and the VM's vsock is dead for good, when it has to write its OK to a connection that we closed. So a connection that
 * was given up is parked, never closed, until the answer comes; the next attempt at the same port takes it up, which finds a guest
 * that goes on sooner than a new request would. Of requests without an answer there are so many and no more; who comes then waits for
 * his turn, so that thousands may come at once.
 */
import { connect, type Socket } from 'node:net';
import { FairleadError } from '../../shared/errors.ts';
import type { DaemonQuiet } from './daemon-quiet.ts';

/** The answer is `OK ` and a port number. */
const MAX_ANSWER_BYTES = 64;
const NEWLINE = 0x0a;
/** Of one VM, those that were given up among them: its daemon has room for as many. */
const MAX_UNANSWERED = 256;

export interface DialTarget {
  readonly vm: string;
  readonly udsPath: string;
  /** While it lasts, nothing is asked of the daemon. */
  readonly quiet: Pick<DaemonQuiet, 'reason' | 'over' | 'touch'>;
}

export interface DialOptions {
  readonly port: number;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

interface Pending {
  readonly port: number;
  readonly socket: Socket;
  readonly answered: Promise<void>;
}

interface Turn extends PromiseWithResolvers<Pending> {
  readonly port: number;
}

export class VhostUserDialler {
  readonly #target: DialTarget;
  readonly #pending = new Set<Pending>();
  /** Those of `#pending` that were given up. */
  readonly #parked = new Set<Pending>();
  /** First come, first served. */
  readonly #waiting = new Set<Turn>();
  #servesWhenLoud = false;

  constructor(target: DialTarget) {
    this.#target = target;
  }

  async dial({ port, timeoutMs, signal }: DialOptions): Promise<Socket> {
    const { vm } = this.#target;
    signal?.throwIfAborted();
    const turn: Turn = { port, ...Promise.withResolvers<Pending>() };
    const { promise: gaveUp, reject } = Promise.withResolvers<never>();
    const giveUp = (error: Error) => {
      // At once: nothing may be handed to a turn that nobody waits for.
      this.#waiting.delete(turn);
      reject(error);
    };
    const timer = setTimeout(giveUp, timeoutMs, new NoAnswer());
    const onAbort = () => giveUp(new FairleadError('CANCELLED', `the attempt to reach guest ${vm} was cancelled`));
    signal?.addEventListener('abort', onAbort, { once: true });
    this.#waiting.add(turn);
    this.#serve();
    let pending: Pending | undefined;
    try {
      pending = await Promise.race([turn.promise, gaveUp]);
      await Promise.race([pending.answered, gaveUp]);
      this.#pending.delete(pending);
      return pending.socket;
    } catch (error) {
      if (pending !== undefined) this.#park(pending);
      signal?.throwIfAborted();
      if (!(error instanceof NoAnswer)) throw error;
      const owes = pending === undefined ? `: it owes the answer to ${MAX_UNANSWERED} others` : '';
      throw new FairleadError(
        'GUEST_UNREACHABLE',
        `guest ${vm} did not answer on vsock port ${port} within ${timeoutMs} ms${owes}`,
      );
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    }
  }

  /** Closes what is parked. Only once the daemon has ended: see above. */
  closeParked(): void {
    for (const pending of this.#pending) pending.socket.destroy();
    this.#pending.clear();
    this.#parked.clear();
  }

  #park(pending: Pending): void {
    // Nobody is to wait for it at the end of this process.
    pending.socket.unref();
    // The answer came in the very moment.
    if (!this.#pending.has(pending)) return void pending.socket.destroy();
    this.#parked.add(pending);
    this.#serve();
  }

  /** Called whenever there may be room for one more, or one more to take up. */
  #serve(): void {
    if (this.#waiting.size === 0) return;
    if (this.#target.quiet.reason !== undefined) return void this.#serveWhenLoud();
    for (const turn of this.#waiting) {
      const pending = this.#take(turn.port);
      if (pending !== undefined) {
        this.#waiting.delete(turn);
        turn.resolve(pending);
      } else if (this.#parked.size === 0) return;
    }
  }

  async #serveWhenLoud(): Promise<void> {
    if (this.#servesWhenLoud) return;
    this.#servesWhenLoud = true;
    await this.#target.quiet.over();
    this.#servesWhenLoud = false;
    this.#serve();
  }

  #take(port: number): Pending | undefined {
    for (const pending of this.#parked) {
      if (pending.port !== port) continue;
      this.#parked.delete(pending);
      pending.socket.ref();
      return pending;
    }
    return this.#pending.size < MAX_UNANSWERED ? this.#request(port) : undefined;
  }

  #request(port: number): Pending {
    this.#target.quiet.touch();
    const socket = connect({ path: this.#target.udsPath, allowHalfOpen: true });
    socket.write(`CONNECT ${port}\n`);
    const answered = readAnswer(socket).catch((error: unknown) => {
      socket.destroy();
      throw this.#explain(error, port);
    });
    const pending: Pending = { port, socket, answered };
    this.#pending.add(pending);
    const settled = () => {
      // The answer came when nobody waited any more.
      if (this.#parked.delete(pending)) socket.destroy();
      this.#pending.delete(pending);
      this.#serve();
    };
    answered.then(settled, settled);
    return pending;
  }

  #explain(error: unknown, port: number): FairleadError {
    const { vm } = this.#target;
    if (error instanceof EndBeforeAnswer) {
      return new FairleadError('GUEST_REFUSED', `guest ${vm} refused vsock port ${port}: nothing listens there`);
    }
    const code = error instanceof Error && 'code' in error ? String(error.code) : String(error);
    const why =
      code === 'ECONNREFUSED' || code === 'ENOENT'
        ? `its vsock daemon is gone (${code}): stop and start the VM`
        : `its vsock driver is not up (${code})`;
    return new FairleadError('GUEST_UNREACHABLE', `could not reach guest ${vm} on vsock port ${port}: ${why}`, { cause: error });
  }
}

class NoAnswer extends Error {}
class EndBeforeAnswer extends Error {}

/** Reads the answer's line and not a byte more: what follows it stays in the socket for whoever gets it. */
async function readAnswer(socket: Socket): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let line = Buffer.alloc(0);
  const onReadable = () => {
    for (let chunk: Buffer | null = socket.read(); chunk !== null; chunk = socket.read()) {
      const end = chunk.indexOf(NEWLINE);
      line = Buffer.concat([line, end === -1 ? chunk : chunk.subarray(0, end)]);
      if (end !== -1) {
        const rest = chunk.subarray(end + 1);
        if (!line.toString('latin1').startsWith('OK ')) return reject(protocolError(line));
        // Listeners go first: an unshift under a `readable` listener would wake it.
        stop();
        if (rest.length > 0) socket.unshift(rest);
        return resolve();
      }
      if (line.length > MAX_ANSWER_BYTES) return reject(protocolError(line));
    }
  };
  const onEnd = () => reject(new EndBeforeAnswer());
  const onClose = () => reject(new Error('the connection was closed'));
  const stop = () => {
    socket.off('readable', onReadable).off('end', onEnd).off('error', reject).off('close', onClose);
  };
  socket.on('readable', onReadable).on('end', onEnd).on('error', reject).on('close', onClose);
  try {
    await promise;
  } finally {
    stop();
    // Until the next owner has put its own listener, an error must not end the process: it is told by `destroyed` and `errored`.
    socket.on('error', () => {});
  }
}

function protocolError(line: Buffer): Error {
  return new Error(`unexpected answer ${JSON.stringify(line.subarray(0, MAX_ANSWER_BYTES).toString('latin1'))}`);
}
