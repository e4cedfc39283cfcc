/**
 * The add-on's operations as the compiled module exports them: control calls only, no data passes through here but what `liftPeerInput` puts
 * back where it was.
 *
 * Common to all of them:
 * - Every descriptor made is close-on-exec and belongs to the caller, who ends it with `closeFd` or hands it on (to a child's
 *   `stdio`, or to a `net.Socket`).
 * - A failed system call throws an Error with `code` (the errno's name, as `'ECONNRESET'`), `errno` (negative, as in Node) and
 *   `syscall`; its message says what, on what, why and what to do. Nothing is left open behind it.
 * - A wrong argument throws a TypeError with code `ERR_INVALID_ARG_VALUE` before anything is done.
 * - None of them blocks the thread it is called on, but `liftPeerInput` for the time that it is given.
 * - Each environment (main thread or worker) has its own state; what is pending when it ends is closed.
 */

/** An AF_VSOCK address. CIDs: 1 loopback, 2 the host, 3 to 0xFFFFFFFE guests. Ports are 32 bits wide. */
export interface VsockAddress {
  readonly cid: number;
  readonly port: number;
}

export interface Binding {
  readonly interfaceVersion: number;

  /** Begins a connect; the promise gives the connected descriptor. `bufferBytes` 0 leaves the kernel's 256 KiB. */
  vsockConnect(
    cid: number,
    port: number,
    timeoutMs: number,
    bufferBytes: number,
  ): { readonly id: number; readonly promise: Promise<number> };
  /** Closes the descriptor of a pending connect and rejects its promise with ECANCELED; false where it has settled. */
  cancelConnect(id: number): boolean;
  /** A bound, listening, non-blocking descriptor. CID and port 0xFFFFFFFF mean any. */
  vsockListen(cid: number, port: number, backlog: number, bufferBytes: number): number;
  /** Who is at the other end of a connected vsock descriptor. Read it early: after the own half-close it is ENOTCONN. */
  vsockPeer(fd: number): VsockAddress;
  /** What a vsock descriptor is bound to, the kernel's choice of port included. */
  vsockLocal(fd: number): VsockAddress;
  /** This machine's CID: its own in a guest, 2 on a host with vhost, 1 with the loopback alone. */
  vsockLocalCid(): number;

  /**
   * Reserves a guest's CID for as long as the descriptor, or QEMU's copy of it (`vhostfd=`), stays open. With `cid`, that one or
   * EADDRINUSE; otherwise the first free one counted up from `from`, or from a random start.
   */
  reserveCid(cid?: number, from?: number): { readonly fd: number; readonly cid: number };

  /** Two connected AF_UNIX stream sockets. */
  socketpair(): [number, number];
  /**
   * Makes the open number `targetFd` refer to what `sourceFd` refers to, non-blocking; what it referred to before is closed.
   * `sourceFd` stays open. Under a `net.Socket` or `net.Server` this must happen in the tick that made it, before libuv has
   * told the kernel to watch the old file.
   */
  swapInto(targetFd: number, sourceFd: number): void;
  /** EBUSY while a `pidfdWait` is pending on it. */
  closeFd(fd: number): void;
  /**
   * Sends bytes (at least one) with descriptors (at most 253) over an AF_UNIX socket, and returns how many bytes the kernel took;
   * the descriptors go with the first of them. The caller's stay open. EAGAIN where the socket is full.
   */
  sendFds(socketFd: number, fds: readonly number[], bytes: Uint8Array): number;
  /** Its counterpart; no bytes mean the end of the stream. EAGAIN where nothing has come. */
  recvFds(socketFd: number, maxBytes: number): { readonly fds: number[]; readonly bytes: Buffer };

  /** A listening AF_UNIX stream socket whose file has mode 0600 from birth. The caller removes the file in the end. */
  unixListen(path: string, backlog: number): number;
  /** One under an abstract name of the kernel's choice; `path` is what `net.connect` takes. */
  unixListenAbstract(): { readonly fd: number; readonly path: string };

  /** A descriptor for one process, never for another that gets the same pid later. ESRCH where it is gone. */
  pidfdOpen(pid: number): number;
  /** ESRCH where the process has exited. Signal 0 only asks. */
  pidfdSignal(pidfd: number, signal: number): void;
  /**
   * Settles when the process has exited (as a zombie too); how, only its parent learns. Does not keep the event loop up.
   * One wait a descriptor at a time (EEXIST); rejected with ECANCELED by `pidfdClose`.
   */
  pidfdWait(pidfd: number): Promise<void>;
  pidfdClose(pidfd: number): void;

  /** How many bytes a TCP socket may hold that are not yet sent before it stops being writable. */
  setNotsentLowat(fd: number, bytes: number): void;
  /** How many bytes of a TCP socket the kernel holds that were never sent. */
  getNotsent(fd: number): number;
  /**
   * The promise gives true once the socket is writable, which with `setNotsentLowat` is when less than half of that is unsent, or broken;
   * and false when `cancelSendable` came before. Holds a descriptor of its own meanwhile: the connection is not closed before it is
   * cancelled. Does not keep the event loop up. EMFILE where there are no descriptors left.
   */
  waitSendable(fd: number): { readonly id: number; readonly promise: Promise<boolean> };
  /** False where it has settled. */
  cancelSendable(id: number): boolean;

  /** Memory that holds what was written to an AF_UNIX socket and is not yet read at its other end; 0 when all is. In bytes. */
  getUntaken(fd: number): number;
  /**
   * Takes all input out of the other end of a connected AF_UNIX stream, which process `pid` has, and puts it back in its order, once that
   * process has written something or `waitMs` (at most 1,000) are over. `fd` must belong to this thread alone, with no write under way.
   * Nothing is done, and all numbers are 0, where there is no input, or where something lies at this end to be read.
   *
   * Throws, with nothing done, EPERM or EACCES (no right to trace that process), ENOENT (it does not have the other end), EMSGSIZE (more
   * than `maxBytes`, at most 16 MiB), EPIPE (this end or the other is shut), EOPNOTSUPP (no connected stream) or another errno. Where
   * `returnedBytes` is less than `takenBytes`, the end of what was written is lost: the connection must not be used any more.
   */
  liftPeerInput(
    fd: number,
    pid: number,
    maxBytes: number,
    waitMs: number,
  ): { readonly takenBytes: number; readonly returnedBytes: number; readonly cameBytes: number };

  /**
   * Tells the service manager something (`READY=1`, `WATCHDOG=1`, …). `socketPath` is what NOTIFY_SOCKET holds: an absolute path,
   * or a name that starts with `@`. EAGAIN where the manager's queue is full.
   */
  sdNotify(state: string, socketPath: string): void;

  /** Gives memory that the C library keeps free back to the kernel; false where there was none, or it cannot (musl). Some ms. */
  trimHeap(): boolean;
}
