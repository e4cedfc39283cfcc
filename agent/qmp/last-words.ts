/**
 * A write to a QEMU that has closed meets EPIPE, upon which Node destroys the socket with QEMU's last words, such as the SHUTDOWN event,
 * still unread in it. So a write that fails because the other side is gone counts as done here: that it is gone is told by the end of
 * what it said, once all of that has been read. (Writing only after a look at what there is to read would leave a gap, and costs every
 * command two turns of the event loop.)
 */
import type { Socket } from 'node:net';

type Done = (error?: Error | null) => void;

export function keepLastWords(socket: Socket): void {
  const write = socket._write.bind(socket);
  const writev = socket._writev?.bind(socket);
  socket._write = (chunk, encoding, done) => write(chunk, encoding, unlessGone(done));
  if (writev !== undefined) socket._writev = (chunks, done) => writev(chunks, unlessGone(done));
}

function unlessGone(done: Done): Done {
  return (error) => done(error != null && isGone(error) ? null : error);
}

function isGone(error: Error): boolean {
  return 'code' in error && (error.code === 'EPIPE' || error.code === 'ECONNRESET');
}
