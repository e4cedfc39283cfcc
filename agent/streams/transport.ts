/**
 * How the agent reaches the vsock of its guests. Two ways, one interface: the kernel's AF_VSOCK through vhost-vsock, and a
 * vhost-user daemon (`vhost-device-vsock`) that the agent runs, for hosts without the former.
 *
 * A transport is chosen once for a host (`chooseTransport`); a device is made for each start of a VM and lives as long as that QEMU
 * process. The device owns its CID, its daemon and its sockets; `Symbol.asyncDispose` gives all of it back.
 */
import type { Duplex } from 'node:stream';
import type { ProcessGuard } from '../vm/confinement/guarded-spawn.ts';

export interface VsockTransport {
  readonly kind: 'vhost-vsock' | 'vhost-user';
  /**
   * Whether one direction of a stream can be closed alone. Where it cannot, a half-close asked for by the peer is never passed on:
   * it would lose data that the guest still has to send.
   */
  readonly halfClose: boolean;
  /** What QEMU would be told of a device with this run directory, without making one. */
  backendIn(runDir: string): VsockQemuBackend;
  /**
   * Make the device of one start of a VM. `runDir` is the VM's own directory for sockets, short enough for `sun_path`; `guard` holds what
   * is spawned for it.
   */
  prepare(options: { vm: string; runDir: string; guard?: ProcessGuard; signal?: AbortSignal }): Promise<VsockDevice>;
  /**
   * Take over the device of a VM that is already running, after a restart of the agent. `state` is what `VsockDevice.state` said
   * when the VM was started.
   */
  adopt(options: { vm: string; runDir: string; state: VsockDeviceState }): Promise<VsockDevice>;
}

/** What QEMU is told. For `vhost-vsock` the fd is inherited and named by its number in the child. */
export type VsockQemuBackend = { readonly kind: 'vhost-vsock' } | { readonly kind: 'vhost-user'; readonly socketPath: string };

/** Plain facts, stored with the VM so that a later agent can adopt the device. */
export interface VsockDeviceState {
  readonly kind: VsockTransport['kind'];
  readonly cid: number;
  readonly daemon?: { readonly pid: number; readonly startTime: string };
}

/** `plugged`: the device has come to a guest that runs, whose driver is to take it; `taken`: it has. */
export type GuestChange = 'paused' | 'resumed' | 'reset' | 'plugged' | 'taken';

export interface VsockDevice extends AsyncDisposable {
  readonly cid: number;
  readonly halfClose: boolean;
  readonly backend: VsockQemuBackend;
  /** fd on /dev/vhost-vsock that QEMU inherits; the agent closes its own copy by `spawned()`. */
  readonly vhostFd: number | undefined;
  readonly state: VsockDeviceState;
  /** Called once QEMU has been spawned with the fd. */
  spawned(): void;
  /**
   * Called before the guest is paused, when it goes on, when it was reset, before its streams are ended for it, and for a device that was
   * plugged in.
   */
  guestChanged(change: GuestChange): void;
  /** Resolves when what was last done on the host's side has got to the guest, as far as can be known; soon in any case. */
  settle(): Promise<void>;
  /**
   * One attempt to reach a port of the guest. Rejects with GUEST_REFUSED when nothing listens there and GUEST_UNREACHABLE when the
   * guest does not answer (yet), as soon as the transport knows or after `timeoutMs`; retrying until a deadline is the caller's affair, since it alone knows whether the VM lives.
   */
  connect(options: { port: number; timeoutMs: number; signal?: AbortSignal }): Promise<Duplex>;
  /** Connections that the guest makes to CID 2 on `port`. */
  listen(port: number, onConnection: (stream: Duplex) => void): Promise<AsyncDisposable>;
}
