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
 * that goes on sooner than a new request would.
 */
import { connect, type Socket } from 'node:net';
import { FairleadError } from '../../shared/errors.ts';

/** The answer is `OK ` and a port number. */
const MAX_ANSWER_BYTES = 64;
const NEWLINE = 0x0a;
/** Parked connections of one VM: more means that somebody tries port after port of a guest that does not answer. */
const MAX_PARKED = 256;

export interface DialTarget {
  readonly vm: string;
  readonly udsPath: string;
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
  claimed: boolean;
}

export class VhostUserDialler {
  readonly #target: DialTarget;
  readonly #pending = new Set<Pending>();

  constructor(target: DialTarget) {
    this.#target = target;
  }

  async dial(options: DialOptions): Promise<Socket> {
    const { vm } = this.#target;
    const { port, timeoutMs, signal } = options;
    signal?.throwIfAborted();
    const pending = this.#take(port);
    try {
      await answerWithin(pending.answered, options, vm);
      this.#pending.delete(pending);
      return pending.socket;
    } catch (error) {
      pending.claimed = false;
      // Nobody is to wait for it at the end of this process.
      pending.socket.unref();
      signal?.throwIfAborted();
      throw error instanceof NoAnswer
        ? new FairleadError('GUEST_UNREACHABLE', `guest ${vm} did not answer on vsock port ${port} within ${timeoutMs} ms`)
        : error;
    }
  }

  /** Closes what is parked. Only once the daemon has ended: see above. */
  closeParked(): void {
    for (const pending of this.#pending) pending.socket.destroy();
    this.#pending.clear();
  }

  #take(port: number): Pending {
    for (const pending of this.#pending) {
      if (pending.claimed || pending.port !== port) continue;
      pending.claimed = true;
      pending.socket.ref();
      return pending;
    }
    if (this.#pending.size >= MAX_PARKED) {
      throw new FairleadError(
        'LIMIT_EXCEEDED',
        `guest ${this.#target.vm} owes the answer to ${MAX_PARKED} connections: it is paused or stuck`,
      );
    }
    return this.#request(port);
  }

  #request(port: number): Pending {
    const socket = connect({ path: this.#target.udsPath, allowHalfOpen: true });
    socket.write(`CONNECT ${port}\n`);
    const answered = readAnswer(socket).catch((error: unknown) => {
      socket.destroy();
      throw this.#explain(error, port);
    });
    const pending: Pending = { port, socket, answered, claimed: true };
    this.#pending.add(pending);
    const settled = () => {
      // The answer came when nobody waited any more.
      if (!pending.claimed) socket.destroy();
      this.#pending.delete(pending);
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

async function answerWithin(answered: Promise<void>, { timeoutMs, signal }: DialOptions, vm: string): Promise<void> {
  const { promise: gaveUp, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new NoAnswer()), timeoutMs);
  const onAbort = () => reject(new FairleadError('CANCELLED', `the attempt to reach guest ${vm} was cancelled`));
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    await Promise.race([answered, gaveUp]);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
  }
}

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
