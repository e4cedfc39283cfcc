/** How much of what a program sent lies unsent in the kernel, where nothing can overtake it any more. */
import type { Socket } from 'node:net';
import { loadNative } from './index.ts';
import { socketFd } from './socket-fd.ts';

/** Bytes that the kernel takes beyond what is on its way (tcp(7), TCP_NOTSENT_LOWAT). 64 KiB are 5 ms of a 100 Mbit/s line. */
const NOTSENT_LOWAT_BYTES = 64 * 1024;

/** Limits it for one socket. Says why it could not, if so: control calls may then wait behind bulk data. */
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
