/** Whether this machine can give guests a vsock device and connect to it, for `host.info` and `doctor`. */
import { accessSync, constants } from 'node:fs';
import { loadNative } from './index.ts';

const VHOST_VSOCK = '/dev/vhost-vsock';

export type VsockCapability =
  | { readonly available: true; readonly transport: 'vhost-vsock'; readonly localCid: number }
  | { readonly available: false; readonly reason: string };

/** Asks each time: a module may be loaded, or a right given, while the agent runs. Never throws. */
export function vsockCapability(): VsockCapability {
  const native = loadNative();
  if (!native.available) return { available: false, reason: native.reason };
  try {
    accessSync(VHOST_VSOCK, constants.R_OK | constants.W_OK);
    return { available: true, transport: 'vhost-vsock', localCid: native.api.vsockLocalCid() };
  } catch (error) {
    return { available: false, reason: reasonOf(error) };
  }
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (!('syscall' in error && error.syscall === 'access' && 'code' in error)) return error.message;
  if (error.code === 'ENOENT') return `no ${VHOST_VSOCK}: load the kernel module vhost_vsock (modprobe vhost_vsock)`;
  return `${VHOST_VSOCK} may not be opened (${String(error.code)}): add the user to the group that owns it, often kvm`;
}
