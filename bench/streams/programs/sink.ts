/**
 * Where all streams lead: a unix socket. The first byte of a connection says what becomes of the rest: `b` is counted and dropped, `e` comes
 * back, `s` goes to a process of its own (holder.ts) and is never read, `h` is hashed and answered by its SHA-256 when it ends.
 *
 * Asked `{count: true}` it tells the bytes of each counted connection and the time; asked `{until: N}` it tells when N bytes of all of them
 * have come; asked `{hashed: N}`, when N hashed ones have; asked `{silence: true}`, the longest time in which no hashed byte came. Both count
 * from the last such question.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createServer, type Socket } from 'node:net';
import { endWithBenchmark, programArgs, tell } from '../../programs.ts';

const { path } = programArgs<{ path: string }>();
const counts: number[] = [];
let sum = 0;
let awaited = Number.POSITIVE_INFINITY;
let lastAt = 0;
let silenceMs = 0;
let hashed = 0;
let awaitedHashed = Number.POSITIVE_INFINITY;
let holder: ChildProcess | undefined;

const ROLES: Readonly<Record<string, (socket: Socket) => void>> = { b: count, e: echo, s: hold, h: hash };

endWithBenchmark();
process.on('message', (order: { count?: true; until?: number; silence?: true; hashed?: number }) => {
  if (order.count) tell({ counts, at: performance.now() });
  if (order.silence) {
    tell({ silenceMs });
    silenceMs = 0;
    lastAt = 0;
    hashed = 0;
  }
  if (order.hashed !== undefined) {
    awaitedHashed = order.hashed;
    answerHashed();
  }
  if (order.until !== undefined) {
    awaited = order.until;
    answerAwaited();
  }
});
createServer({ allowHalfOpen: true }, (socket) => {
  socket.on('error', () => {});
  socket.on('readable', function onReadable() {
    const first: Buffer | null = socket.read(1);
    if (first === null) return;
    socket.off('readable', onReadable);
    ROLES[first.toString()]?.(socket);
  });
}).listen(path, () => tell({ ready: true }));

function count(socket: Socket): void {
  const own = counts.push(0) - 1;
  socket.on('data', (chunk) => {
    counts[own] = (counts[own] ?? 0) + chunk.length;
    sum += chunk.length;
    answerAwaited();
  });
  socket.on('end', () => socket.end());
}

/** A socket of Node reads ahead. A thousand of them would make this process slower, and it is none of those that are measured. */
function hold(socket: Socket): void {
  holder ??= fork(new URL('holder.ts', import.meta.url));
  holder.send('hold', socket);
}

function answerAwaited(): void {
  if (sum < awaited) return;
  awaited = Number.POSITIVE_INFINITY;
  tell({ swallowed: sum });
}

function answerHashed(): void {
  if (hashed < awaitedHashed) return;
  awaitedHashed = Number.POSITIVE_INFINITY;
  tell({ hashed });
}

function echo(socket: Socket): void {
  socket.pipe(socket);
}

function hash(socket: Socket): void {
  const sha256 = createHash('sha256');
  socket.on('data', (chunk) => {
    const now = performance.now();
    if (lastAt > 0) silenceMs = Math.max(silenceMs, now - lastAt);
    lastAt = now;
    hashed += chunk.length;
    sha256.update(chunk);
    answerHashed();
  });
  socket.on('end', () => socket.end(sha256.digest('hex')));
}
