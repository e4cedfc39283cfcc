/**
 * A guest that closes has often said something first: a server that refuses a request answers, and takes no more of it. A write after that
 * meets EPIPE, and over the daemon's unix socket reading ends with ECONNRESET where the daemon still held input for the guest. Upon
 * either, Node destroys the socket with all that is still to be read. So such a failure waits here until that has been read:
 *
 *     open ── a write fails: the guest takes no more ──▶ writer waits ── end of file ──▶ ended ──▶ destroyed with the failure
 *       └──── reading fails, what was read is still to be taken (`resetIsEnd`) ─────────────▲
 *
 * The user of the stream sees all that the guest said, its end, and then the error: some of what it wrote was not taken.
 */
import type { Socket } from 'node:net';

type Done = (error?: Error | null) => void;

export interface LastWordsOptions {
  /** Whether ECONNRESET on reading says that the guest has closed, and not that it is gone without a word. */
  readonly resetIsEnd: boolean;
}

export function keepLastWords<T extends Socket>(socket: T, { resetIsEnd }: LastWordsOptions): T {
  /** Tells the failure that waits. */
  let fail: (() => void) | undefined;
  const write = socket._write.bind(socket);
  const writev = socket._writev?.bind(socket);
  const destroy = socket.destroy.bind(socket);
  const unlessGone = (done: Done): Done => {
    return (error) => {
      if (error == null || !isGone(error) || socket.readableEnded || socket.destroyed) return done(error);
      fail = () => done(error);
    };
  };
  socket._write = (chunk, encoding, done) => write(chunk, encoding, unlessGone(done));
  if (writev !== undefined) socket._writev = (chunks, done) => writev(chunks, unlessGone(done));
  socket.destroy = (error?: Error): T => {
    const isEnd = resetIsEnd && error !== undefined && isReset(error) && !socket.readableEnded && !socket.destroyed;
    if (!isEnd) return destroy(error);
    fail ??= () => void destroy(error);
    socket.push(null);
    // Tells Readable to look again: nothing else would make it see the end when its buffer is empty.
    socket.read(0);
    return socket;
  };
  // In the next turn, when whoever waits for the end has heard of it.
  socket.once('end', () => process.nextTick(() => fail?.()));
  return socket;
}

function isGone(error: Error): boolean {
  return 'code' in error && (error.code === 'EPIPE' || error.code === 'ECONNRESET');
}

function isReset(error: Error): boolean {
  return 'code' in error && error.code === 'ECONNRESET' && 'syscall' in error && error.syscall === 'read';
}
