/**
 * vhost-device-vsock 0.3.0 carries a connection no further, for good, once both of its directions have stood still at the same time: the
 * guest's output is not read here, and the guest does not read its input. Reading on, new connections and other traffic do not revive
 * it (tried, QEMU 7.2: an echo that was written to and not read for half a second). One direction alone may stand still for as long as it likes.
 *
 *     flowing ── a write waits while nobody reads ──▶ jammed ── that write is done ──▶ flowing
 *                                                       └── read from again, and nothing moves for STILL_LOOKS × LOOK_MS ──▶ destroyed
 *
 * From here such a connection looks like a guest that neither reads nor writes, which it may; so nothing but a connection that was jammed is
 * taken for stopped, and only after a time in which a program that goes on would have read or written something.
 */
import type { Socket } from 'node:net';
import type { FairleadError } from '../../shared/errors.ts';

const LOOK_MS = 10_000;
/** Looks in a row at which nothing had moved. */
const STILL_LOOKS = 6;

type Done = (error?: Error | null) => void;

export interface StoppedOptions {
  /** The guest or its device stands still as a whole: that is no sign. */
  readonly isQuiet: () => boolean;
  readonly error: () => FairleadError;
  readonly lookMs?: number | undefined;
}

/** Destroys the socket with that error when it is taken for stopped. */
export function endWhenStopped(socket: Socket, { isQuiet, error, lookMs = LOOK_MS }: StoppedOptions): void {
  let isWriting = false;
  let isJammed = false;
  let timer: NodeJS.Timeout | undefined;
  const watch = (stillLooks = 0): void => {
    clearTimeout(timer);
    if (!isJammed || socket.isPaused()) return;
    const { bytesRead } = socket;
    timer = setTimeout(() => {
      const isStill = socket.bytesRead === bytesRead && !isQuiet();
      if (isStill && stillLooks + 1 >= STILL_LOOKS) socket.destroy(error());
      else watch(isStill ? stillLooks + 1 : 0);
    }, lookMs).unref();
  };
  const began = (done: Done): Done => {
    isWriting = true;
    isJammed = socket.isPaused();
    return (failure) => {
      isWriting = false;
      isJammed = false;
      clearTimeout(timer);
      done(failure);
    };
  };
  const write = socket._write.bind(socket);
  const writev = socket._writev?.bind(socket);
  socket._write = (chunk, encoding, done) => write(chunk, encoding, began(done));
  if (writev !== undefined) socket._writev = (chunks, done) => writev(chunks, began(done));
  socket.on('pause', () => {
    isJammed ||= isWriting;
    clearTimeout(timer);
  });
  socket.on('resume', () => watch());
  socket.once('close', () => clearTimeout(timer));
}
