/** The two things that the hub asks of the add-on; without it, it goes on without them. */
import type { Socket } from 'node:net';
import { loadNative } from '../native/index.ts';
import { socketFd } from '../native/socket-fd.ts';

/**
 * Bytes that the kernel takes beyond what is on its way: what lies there cannot be overtaken by a control call any more. 64 KiB are 5 ms
 * of a 100 Mbit/s line.
 */
const NOTSENT_LOWAT_BYTES = 64 * 1024;

/** Why it could not be set, if so. */
export function limitUnsentBytes(socket: Socket): string | undefined {
  const native = loadNative();
  if (!native.available) return native.reason;
  try {
    native.api.setNotsentLowat(socketFd(socket), NOTSENT_LOWAT_BYTES);
    return undefined;
  } catch (error) {
    return String(error);
  }
}

/** Tells systemd (sd_notify(3)); `socketPath` is what NOTIFY_SOCKET says. Returns why it could not, if so. */
export function notifySystemd(state: string, socketPath: string): string | undefined {
  const native = loadNative();
  if (!native.available) return native.reason;
  try {
    native.api.sdNotify(state, socketPath);
    return undefined;
  } catch (error) {
    return String(error);
  }
}
