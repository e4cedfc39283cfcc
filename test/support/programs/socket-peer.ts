/**
 * The other end of one unix connection, in a process of its own: listens on argv[2], and does to what it accepts what it is told by message.
 *
 *     read    reads on from now        pause   reads no more
 *     write   writes 1,000 bytes, in 20 ms
 *
 * Tells `listening`, `accepted`, `written` and, at the end of the connection, the SHA-256 of all that came.
 */
import { createHash } from 'node:crypto';
import { createServer } from 'node:net';

const [, , path = ''] = process.argv;
const hash = createHash('sha256');
const server = createServer({ pauseOnConnect: true }, (socket) => {
  server.close();
  socket.on('data', (chunk) => hash.update(chunk));
  socket.once('end', () => process.send?.(hash.digest('hex'), () => process.disconnect()));
  process.on('message', (told) => {
    if (told === 'read') socket.resume();
    if (told === 'pause') socket.pause();
    if (told === 'write') setTimeout(() => socket.write(Buffer.alloc(1000), () => process.send?.('written')), 20);
  });
  process.send?.('accepted');
});
server.listen(path, () => process.send?.('listening'));
