/**
 * vhost-device-vsock 0.3.0 carries a connection no further, for good, once the guest waits with its output and has no room for more input,
 * both at once: it hands on what the guest's output left over only while no input waits in its socket, and the guest takes no input before
 * that (an echo, say). It needs no reader that stops: one that is late by the milliseconds in which a guest fills a socket is enough
 * (tried, QEMU 7.2, without this program: an echo of 16 MiB, each fourth time). Reading on, new connections and other traffic do not revive
 * it; to take the input away from the daemon for a moment does (revival.ts). One direction alone may stand still for as long as it likes.
 *
 *     flowing ── output lay here unread ──▶ suspect ── HELD_BYTES more went in or out ──▶ flowing
 *                 a write waits meanwhile │    └── read from, input waits, nothing moves for SUSPECT_LOOKS × LOOK_MS ──▶ destroyed
 *                                         ▼
 *                                      jammed ── that write is done ──▶ suspect
 *                                         └── the same for STILL_LOOKS × LOOK_MS ──▶ destroyed
 *
 * From here such a connection looks like a guest that neither reads nor writes, which it may; so nothing but a connection that may have been
 * stopped so is taken for it, and only after a time in which a program that goes on would have read or written something. Where it can be
 * tried to revive it, that is tried all the while, and who gave nothing then is such a guest.
 */
import type { Socket } from 'node:net';
import type { FairleadError } from '../../shared/errors.ts';
import { Revival, type RevivalOptions } from './revival.ts';

const LOOK_MS = 10_000;
/** Looks in a row at which nothing had moved: of a connection that was seen to stand still both ways, and of one that only may have been. */
const STILL_LOOKS = 6;
const SUSPECT_LOOKS = 30;
/** As much as Node reads at once: there was more than a little, and the daemon may have had no room for the rest. */
const BURST_BYTES = 64 * 1024;
/** More than a stopped connection still takes, or still gives, out of the buffers of kernel and guest: 208 KiB and 256 KiB. */
const HELD_BYTES = 512 * 1024;

type Done = (error?: Error | null) => void;

export interface StoppedOptions extends Omit<RevivalOptions, 'socket' | 'isDoubtful' | 'onBroken'> {
  /** The guest or its device stands still as a whole: that is no sign. */
  readonly isQuiet: () => boolean;
  /** What it ends with: why. */
  readonly error: (why: string) => FairleadError;
  readonly lookMs?: number | undefined;
}

/** Has the socket revived where that can be, and destroys it with that error when it is taken for stopped. */
export function endWhenStopped(socket: Socket, options: StoppedOptions): Revival {
  const { isQuiet, error, reviver, lookMs = LOOK_MS } = options;
  /** Of the write that waits. */
  let writingBytes = 0;
  let writtenBytes = 0;
  let isJammed = false;
  /** What had been read and written when output lay here unread last. */
  let suspect: { readonly read: number; readonly written: number } | undefined;
  let timer: NodeJS.Timeout | undefined;

  const suspectNow = (): void => {
    suspect = { read: socket.bytesRead, written: writtenBytes };
    watch();
    revival.moved();
  };
  const looksToEnd = (): number => {
    if (isJammed) return STILL_LOOKS;
    if (suspect === undefined) return Number.POSITIVE_INFINITY;
    const isHeld = socket.bytesRead - suspect.read <= HELD_BYTES && writtenBytes - suspect.written <= HELD_BYTES;
    return isHeld ? SUSPECT_LOOKS : Number.POSITIVE_INFINITY;
  };
  const isDoubtful = (): boolean => looksToEnd() < Number.POSITIVE_INFINITY;
  const isWatched = (): boolean => isDoubtful() && (writingBytes > 0 || reviver.untaken(socket) > 0);
  const revival = new Revival({
    ...options,
    socket,
    isDoubtful,
    onBroken: () => socket.destroy(error('what was on its way into the guest was lost in an attempt to revive it')),
  });
  const why = (): string => {
    const { cannot } = revival;
    return `vhost-device-vsock stopped carrying it, jammed both ways${cannot === undefined ? '' : `, and it could not be revived: ${cannot}`}`;
  };
  const look = (stillLooks: number): void => {
    const [read, written] = [socket.bytesRead, writtenBytes];
    timer = setTimeout(() => {
      timer = undefined;
      if (!isWatched()) return;
      const isStill =
        socket.bytesRead === read && writtenBytes === written && !socket.isPaused() && !isQuiet() && !revival.isGuests;
      if (isStill && stillLooks + 1 >= looksToEnd()) socket.destroy(error(why()));
      else look(isStill ? stillLooks + 1 : 0);
    }, lookMs).unref();
  };
  const watch = (): void => {
    if (timer === undefined && !socket.destroyed && isWatched()) look(0);
  };
  const began = (bytes: number, done: Done): Done => {
    writingBytes = bytes;
    isJammed = socket.isPaused();
    if (isJammed) suspectNow();
    else watch();
    revival.look();
    return (failure) => {
      writtenBytes += writingBytes;
      writingBytes = 0;
      isJammed = false;
      done(failure);
    };
  };

  const write = socket._write.bind(socket);
  const writev = socket._writev?.bind(socket);
  const push = socket.push.bind(socket);
  socket._write = (chunk, encoding, done) => write(chunk, encoding, began(chunk.length, done));
  if (writev !== undefined) {
    socket._writev = (chunks, done) => {
      const bytes = chunks.reduce((sum, { chunk }) => sum + chunk.length, 0);
      writev(chunks, began(bytes, done));
    };
  }
  socket.push = (chunk: unknown, encoding?: BufferEncoding): boolean => {
    if (chunk instanceof Uint8Array && chunk.length >= BURST_BYTES) suspectNow();
    return push(chunk, encoding);
  };
  socket.on('pause', () => {
    isJammed ||= writingBytes > 0;
    suspectNow();
  });
  socket.on('resume', () => {
    // Until now it lay here.
    if (suspect !== undefined && socket.bytesRead === suspect.read) suspectNow();
  });
  socket.once('close', () => clearTimeout(timer));
  return revival;
}
