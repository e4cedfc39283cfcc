/**
 * Descriptors for QEMU, which come with the first byte of the command that names them (unix(7), SCM_RIGHTS). Node's sockets cannot send
 * them, so the add-on does, on the descriptor below the socket and past its queue, which therefore has to be empty.
 */
import type * as net from 'node:net';
import { loadNative } from '../../native/index.ts';
import { socketFd } from '../../native/socket-fd.ts';
import { FairleadError } from '../../shared/errors.ts';

/**
 * Sends the descriptors, and what of the text goes with them; returns the rest of it, for the socket itself.
 * @throws FairleadError UNSUPPORTED without the add-on, INTERRUPTED while QEMU does not read its monitor; nothing was sent then.
 */
export function passDescriptors(
  socket: net.Socket,
  { text, fds, monitor }: { readonly text: string; readonly fds: readonly number[]; readonly monitor: string },
): Buffer {
  const native = loadNative();
  if (!native.available) throw new FairleadError('UNSUPPORTED', `no descriptor can be passed to QEMU: ${native.reason}`);
  const bytes = Buffer.from(text);
  if (socket.writableLength > 0) throw notPassed(monitor, 'it does not read what was sent before');
  try {
    return bytes.subarray(native.api.sendFds(socketFd(socket), fds, bytes));
  } catch (error) {
    throw notPassed(monitor, error instanceof Error ? error.message : String(error), error);
  }
}

function notPassed(monitor: string, why: string, cause?: unknown): FairleadError {
  return new FairleadError('INTERRUPTED', `could not pass a descriptor to QEMU on ${monitor}: ${why}`, { cause });
}
