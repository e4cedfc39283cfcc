/**
 * What the rest of the project calls: the binding, with options objects and an `AbortSignal` where JavaScript expects them.
 */
import type { Binding } from './binding.ts';

/** VMADDR_CID_ANY and VMADDR_PORT_ANY. */
const ANY = 0xffff_ffff;

export interface VsockConnectOptions {
  readonly cid: number;
  readonly port: number;
  /** Bounds the whole attempt; the kernel rounds it up to its own tick. 1 to 86,400,000. */
  readonly timeoutMs: number;
  /** The connection's credit buffer; the kernel's 256 KiB where absent. */
  readonly bufferBytes?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface VsockListenOptions {
  /** Any where absent. */
  readonly cid?: number | undefined;
  /** The kernel chooses where absent: see `vsockLocal`. */
  readonly port?: number | undefined;
  readonly backlog: number;
  readonly bufferBytes?: number | undefined;
}

export interface NativeApi extends Omit<Binding, 'vsockConnect' | 'cancelConnect' | 'vsockListen'> {
  /**
   * Connects and gives the non-blocking descriptor. Rejects with ENODEV (no such VM), ECONNRESET (nothing listens there),
   * ETIMEDOUT (no answer in time), ECANCELED (the signal, as `cause` its reason) or another errno; ECONNREFUSED and EHOSTUNREACH
   * are to be taken like ECONNRESET and ENODEV. Keeps the event loop up while it is pending.
   */
  vsockConnect(options: VsockConnectOptions): Promise<number>;
  vsockListen(options: VsockListenOptions): number;
}

export function createApi(binding: Binding): NativeApi {
  return {
    ...binding,
    // Arguments are checked by throwing; who awaits gets every failure as a rejection.
    pidfdWait: async (pidfd) => binding.pidfdWait(pidfd),
    vsockListen: (options) =>
      binding.vsockListen(options.cid ?? ANY, options.port ?? ANY, options.backlog, options.bufferBytes ?? 0),
    vsockConnect: (options) => connect(binding, options),
  };
}

async function connect(binding: Binding, options: VsockConnectOptions): Promise<number> {
  const { cid, port, timeoutMs, bufferBytes = 0, signal } = options;
  const isAborted = (): boolean => signal?.aborted === true;
  if (isAborted()) throw canceled(options);
  const { id, promise } = binding.vsockConnect(cid, port, timeoutMs, bufferBytes);
  const onAbort = (): void => {
    binding.cancelConnect(id);
  };
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    const fd = await promise;
    if (!isAborted()) return fd;
    // Connected and aborted between the event and this line.
    binding.closeFd(fd);
    throw canceled(options);
  } catch (error) {
    throw isCanceled(error) ? canceled(options) : error;
  } finally {
    signal?.removeEventListener('abort', onAbort);
  }
}

function isCanceled(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ECANCELED';
}

function canceled({ cid, port, signal }: VsockConnectOptions): Error {
  const message = `could not connect to vsock ${cid}:${port}: ECANCELED (operation canceled); the caller gave up`;
  return Object.assign(new Error(message, { cause: signal?.reason }), { code: 'ECANCELED', syscall: 'connect' });
}
