/**
 * vsock through the kernel: vhost-vsock gives each guest a CID that is unique on the host, and AF_VSOCK reaches it.
 *
 * The CID is reserved on a descriptor of the agent's own, which QEMU inherits (`vhostfd=`): two VMs cannot get the same one, and QEMU
 * needs no right on /dev/vhost-vsock. A CID freed by a VM that ended may be given again at once, so each start counts on from the last.
 *
 * What connect(2) answers, and what it means (linux/net/vmw_vsock, each tried): ECONNRESET nothing listens; ETIMEDOUT the driver is
 * not up, or the guest is paused; ENODEV no VM has the CID. The kernel keeps a request queued for a paused guest until the timeout.
 */
import type { Duplex } from 'node:stream';
import type { NativeApi } from '../../native/index.ts';
import { connectVsock, listenVsock, type VsockServer } from '../../native/vsock-socket.ts';
import { FairleadError } from '../../shared/errors.ts';
import type { Logger } from '../vm/api.ts';
import { keepLastWords } from './last-words.ts';
import type { VsockDevice, VsockDeviceState, VsockTransport } from './transport.ts';

/** First CID of guests: 0 to 2 are the hypervisor, the loopback and the host. */
const FIRST_CID = 3;
const LAST_CID = 0xffff_fffe;
/** ECONNRESET on reading says that the VM is gone; a guest that closes, with input unread or not, says so by an end of file. */
const KERNEL = { resetIsEnd: false } as const;

export interface AfVsockOptions {
  readonly api: NativeApi;
  readonly logger: Logger;
}

export function afVsockTransport({ api, logger }: AfVsockOptions): VsockTransport {
  const ports = new SharedPorts(logger);
  let nextCid = FIRST_CID;
  return {
    kind: 'vhost-vsock',
    halfClose: true,
    backendIn: () => ({ kind: 'vhost-vsock' }),
    async prepare({ vm, signal }) {
      signal?.throwIfAborted();
      const { fd, cid } = reserve(api, vm, nextCid);
      nextCid = cid === LAST_CID ? FIRST_CID : cid + 1;
      return new AfVsockDevice({ vm, api, ports, cid, fd });
    },
    adopt: async ({ vm, state }) => new AfVsockDevice({ vm, api, ports, cid: state.cid, fd: undefined }),
  };
}

function reserve(api: NativeApi, vm: string, from: number): { fd: number; cid: number } {
  try {
    return api.reserveCid(undefined, from);
  } catch (cause) {
    throw new FairleadError('PROCESS_FAILED', `could not reserve a vsock CID for VM ${vm}: ${messageOf(cause)}`, { cause });
  }
}

interface DeviceParts {
  readonly vm: string;
  readonly api: NativeApi;
  readonly ports: SharedPorts;
  readonly cid: number;
  readonly fd: number | undefined;
}

class AfVsockDevice implements VsockDevice {
  readonly cid: number;
  readonly halfClose = true;
  readonly backend: VsockDevice['backend'] = { kind: 'vhost-vsock' };
  readonly state: VsockDeviceState;
  readonly #parts: DeviceParts;
  readonly #listening = new Set<Disposable>();
  #fd: number | undefined;
  #disposed = false;

  constructor(parts: DeviceParts) {
    this.#parts = parts;
    this.#fd = parts.fd;
    this.cid = parts.cid;
    this.state = { kind: 'vhost-vsock', cid: parts.cid };
  }

  get vhostFd(): number | undefined {
    return this.#fd;
  }

  guestChanged(): void {}

  async settle(): Promise<void> {}

  spawned(): void {
    const fd = this.#fd;
    this.#fd = undefined;
    if (fd !== undefined) this.#parts.api.closeFd(fd);
  }

  async connect({ port, timeoutMs, signal }: { port: number; timeoutMs: number; signal?: AbortSignal }): Promise<Duplex> {
    this.#assertUsable();
    try {
      const socket = await connectVsock({ cid: this.cid, port, timeoutMs: Math.max(1, Math.ceil(timeoutMs)), signal });
      if (!this.#disposed) return keepLastWords(socket, KERNEL);
      socket.destroy();
    } catch (error) {
      signal?.throwIfAborted();
      throw explain(error, this.#parts.vm, port, timeoutMs);
    }
    throw this.#gone();
  }

  async listen(port: number, onConnection: (stream: Duplex) => void): Promise<AsyncDisposable> {
    this.#assertUsable();
    const listening = this.#parts.ports.listen({ port, cid: this.cid, vm: this.#parts.vm, onConnection });
    this.#listening.add(listening);
    return {
      [Symbol.asyncDispose]: async () => {
        this.#listening.delete(listening);
        listening[Symbol.dispose]();
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed = true;
    this.spawned();
    for (const listening of this.#listening) listening[Symbol.dispose]();
    this.#listening.clear();
  }

  #assertUsable(): void {
    if (this.#disposed) throw this.#gone();
  }

  #gone(): FairleadError {
    return new FairleadError('GUEST_UNREACHABLE', `VM ${this.#parts.vm} has no vsock device any more: it has stopped`);
  }
}

interface Listener {
  readonly port: number;
  readonly cid: number;
  readonly vm: string;
  readonly onConnection: (stream: Duplex) => void;
}

/**
 * A port of the host is one for all guests: one socket listens on it, and a connection belongs to the VM whose CID the kernel says it
 * came from. Connections of anybody else are closed.
 */
class SharedPorts {
  readonly #ports = new Map<number, { server: VsockServer; byCid: Map<number, Listener> }>();
  readonly #logger: Logger;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  listen(listener: Listener): Disposable {
    const { port, cid, vm } = listener;
    const shared = this.#ports.get(port) ?? this.#open(port, vm);
    if (shared.byCid.has(cid)) {
      throw new FairleadError('CONFLICT', `something listens already for VM ${vm} on vsock port ${port}`);
    }
    shared.byCid.set(cid, listener);
    return {
      [Symbol.dispose]: () => {
        if (shared.byCid.get(cid) !== listener) return;
        shared.byCid.delete(cid);
        if (shared.byCid.size > 0) return;
        this.#ports.delete(port);
        shared.server.close();
      },
    };
  }

  #open(port: number, vm: string) {
    const byCid = new Map<number, Listener>();
    try {
      const server = listenVsock({
        port,
        onConnection: (socket, peer) => {
          const listener = byCid.get(peer.cid);
          if (listener !== undefined) return listener.onConnection(keepLastWords(socket, KERNEL));
          this.#logger.warn({ port, cid: peer.cid }, 'vsock connection from a CID that is no VM of ours, closed');
          socket.destroy();
        },
        onError: (error) => this.#logger.warn({ port, err: error.message }, 'vsock connection could not be accepted'),
      });
      const shared = { server, byCid };
      this.#ports.set(port, shared);
      return shared;
    } catch (cause) {
      throw new FairleadError('UNSUPPORTED', `could not listen on vsock port ${port} for VM ${vm}: ${messageOf(cause)}`, {
        cause,
      });
    }
  }
}

function explain(error: unknown, vm: string, port: number, timeoutMs: number): FairleadError {
  const code = error instanceof Error && 'code' in error ? String(error.code) : undefined;
  const options = { cause: error };
  if (code === 'ECONNRESET' || code === 'ECONNREFUSED') {
    return new FairleadError('GUEST_REFUSED', `guest ${vm} refused vsock port ${port}: nothing listens there`, options);
  }
  if (code === 'ETIMEDOUT') {
    const message = `guest ${vm} did not answer on vsock port ${port} within ${timeoutMs} ms`;
    return new FairleadError('GUEST_UNREACHABLE', message, options);
  }
  return new FairleadError(
    'GUEST_UNREACHABLE',
    `could not reach guest ${vm} on vsock port ${port}: ${messageOf(error)}`,
    options,
  );
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
