/**
 * The add-on on real AF_VSOCK, run inside a VM with the module vsock_loopback: both ends of every connection are this machine (CID 1).
 * The first argument is how many MiB one stream echoes, 8 where absent.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { buffer } from 'node:stream/consumers';
import { Worker } from 'node:worker_threads';
import { requireNative } from '../../../native/index.ts';
import { selfTest } from '../../../native/self-test.ts';
import { socketFd } from '../../../native/socket-fd.ts';
import type { VsockServer, VsockSocket } from '../../../native/vsock-socket.ts';
import { connectVsock, listenVsock } from '../../../native/vsock-socket.ts';
import { epollThreads, openFds, thrown } from '../../support/inspect.ts';
import { runCases } from '../../support/vm-cases.ts';

const api = requireNative();
const LOOPBACK_CID = 1;
const MIB = 1 << 20;
const ECHO_BYTES = Number(process.argv[2] ?? 8) * MIB;

const connect = (port: number, bufferBytes?: number): Promise<VsockSocket> =>
  connectVsock({ cid: LOOPBACK_CID, port, timeoutMs: 10_000, bufferBytes });

const listen = (onConnection: (socket: VsockSocket) => void, bufferBytes?: number): VsockServer =>
  listenVsock({ onConnection, onError: (error) => assert.fail(error), bufferBytes });

const echoServer = (): VsockServer => listen((socket) => socket.pipe(socket));

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

async function echo(port: number, bytes: number): Promise<void> {
  const socket = await connect(port);
  const sent = randomBytes(bytes);
  socket.end(sent);
  assert.equal(sha256(await buffer(socket)), sha256(sent));
}

/** Both ends of one connection. */
async function pair(bufferBytes?: number): Promise<[near: VsockSocket, far: VsockSocket]> {
  const { promise, resolve } = Promise.withResolvers<VsockSocket>();
  using server = listen(resolve, bufferBytes);
  const near = await connect(server.port, bufferBytes);
  return [near, await promise];
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  const error: unknown = await promise.then(
    () => new Error('it succeeded'),
    (cause: unknown) => cause,
  );
  assert.ok(error instanceof Error && 'code' in error, String(error));
  return String(error.code);
}

/** Waits until the kernel has closed what Node has ended: a socket's descriptor goes in a later turn of the loop. */
async function closed(...sockets: VsockSocket[]): Promise<void> {
  for (const socket of sockets) {
    socket.destroy();
    if (!socket.closed) await once(socket, 'close');
  }
}

async function main(): Promise<void> {
  await runCases({
    'passes the self-test on this machine': () => selfTest(api),

    'knows the CID of this machine': async () => {
      const cid = api.vsockLocalCid();
      assert.ok(cid === 1 || cid === 2, String(cid));
      return `CID ${cid}`;
    },

    'tells each end the address of the other': async () => {
      const { promise, resolve } = Promise.withResolvers<VsockSocket>();
      using server = listen(resolve);
      const near = await connect(server.port);
      const far = await promise;
      assert.deepEqual(near.peer, { cid: LOOPBACK_CID, port: server.port });
      // The connecting socket is bound to no CID, only to a port.
      assert.deepEqual(far.peer, { cid: LOOPBACK_CID, port: api.vsockLocal(socketFd(near)).port });
      await closed(near, far);
    },

    'half-closes from the side that connects': async () => {
      const [near, far] = await pair();
      near.end('question');
      assert.equal((await buffer(far)).toString(), 'question');
      far.end('answer');
      assert.equal((await buffer(near)).toString(), 'answer');
    },

    'half-closes from the side that accepts': async () => {
      const [near, far] = await pair();
      far.end('question');
      assert.equal((await buffer(near)).toString(), 'question');
      near.end('answer');
      assert.equal((await buffer(far)).toString(), 'answer');
    },

    'echoes many mebibytes': async () => {
      using server = echoServer();
      await echo(server.port, ECHO_BYTES);
    },

    'echoes through 16 streams at once': async () => {
      using server = echoServer();
      await Promise.all(Array.from({ length: 16 }, () => echo(server.port, ECHO_BYTES / 8)));
    },

    'holds back a writer whose reader is slow, and the event loop goes on': async () => {
      const [near, far] = await pair();
      const sent = randomBytes(4 * MIB);
      assert.equal(near.write(sent), false);
      await new Promise(setImmediate);
      assert.equal(near.writableLength, sent.length);
      near.end();
      assert.equal(sha256(await buffer(far)), sha256(sent));
      await closed(near, far);
    },

    'takes more before it holds back where the buffer is larger': async () => {
      const taken = async (bufferBytes: number): Promise<number> => {
        const [near, far] = await pair(bufferBytes);
        far.pause();
        const chunk = Buffer.alloc(64 * 1024);
        // Each chunk has some turns of the loop in which the kernel takes it, if it takes it at all.
        for (let bytes = 0; ; bytes += chunk.length) {
          near.write(chunk);
          for (let turn = 0; turn < 50 && near.writableLength > 0; turn++) await new Promise(setImmediate);
          if (near.writableLength === 0) continue;
          await closed(near, far);
          return bytes;
        }
      };
      const [small, large] = [await taken(128 * 1024), await taken(2 * MIB)];
      assert.ok(large >= small + MIB, `${large} against ${small} bytes`);
      return `${small} and ${large} bytes`;
    },

    'says end of file when the other end is gone': async () => {
      const [near, far] = await pair();
      far.destroy();
      assert.equal((await buffer(near)).length, 0);
      await closed(near);
    },

    'ends in order where the other end is gone before it has ended its own half': async () => {
      const accepted: VsockSocket[] = [];
      using server = listen((socket) => accepted.push(socket));
      // Whether reading comes before the kernel has word of the shutdown is a race: some rounds are sure to win it.
      for (let round = 0; round < 50; round++) {
        const far = await api.vsockConnect({ cid: LOOPBACK_CID, port: server.port, timeoutMs: 10_000 });
        while (accepted.length === 0) await new Promise(setImmediate);
        const [near] = accepted.splice(0);
        assert.ok(near);
        const ended = once(near, 'close');
        api.closeFd(far);
        // Node sees nothing of the close before this turn ends; the kernel has seen it by the time a process has run.
        spawnSync('true');
        near.end();
        near.resume();
        await ended;
        assert.ok(near.readableEnded);
      }
    },

    'says ECONNRESET where nothing listens': async () => {
      const start = performance.now();
      const rejected = connect(65_000);
      await assert.rejects(rejected, {
        code: 'ECONNRESET',
        syscall: 'connect',
        message:
          'could not connect to vsock 1:65000: ECONNRESET (Connection reset by peer); ' +
          'nothing in the guest listens on this port, or its backlog is full',
      });
      return `after ${Math.round(performance.now() - start)} ms`;
    },

    'says ENODEV for a CID without a VM': async () => {
      const start = performance.now();
      assert.equal(await codeOf(connectVsock({ cid: 7_777, port: 1, timeoutMs: 10_000 })), 'ENODEV');
      return `after ${Math.round(performance.now() - start)} ms`;
    },

    'ends within its time where the backlog is full': async () => {
      const fd = api.vsockListen({ cid: LOOPBACK_CID, backlog: 1 });
      const { port } = api.vsockLocal(fd);
      const open: number[] = [];
      let code = '';
      const start = performance.now();
      while (code === '' && open.length < 16) {
        const attempt = api.vsockConnect({ cid: LOOPBACK_CID, port, timeoutMs: 300 });
        code = await attempt.then(
          (connected) => {
            open.push(connected);
            return '';
          },
          (error: NodeJS.ErrnoException) => error.code ?? 'none',
        );
      }
      for (const descriptor of [fd, ...open]) api.closeFd(descriptor);
      assert.ok(['ECONNRESET', 'ETIMEDOUT'].includes(code), code);
      return `${code} after ${open.length} connections and ${Math.round(performance.now() - start)} ms`;
    },

    'gives up at once when the signal says so, and closes the descriptor': async () => {
      using server = echoServer();
      const before = openFds().size;
      const controller = new AbortController();
      const options = { cid: LOOPBACK_CID, port: server.port, timeoutMs: 60_000, signal: controller.signal };
      const attempts = Array.from({ length: 20 }, () => codeOf(connectVsock(options)));
      controller.abort();
      assert.deepEqual(new Set(await Promise.all(attempts)), new Set(['ECANCELED']));
      assert.ok(openFds().size <= before);
    },

    'refuses a port that is taken and frees it on close': async () => {
      const server = echoServer();
      const { port } = server;
      const again = (): VsockServer => listenVsock({ port, onConnection: () => {}, onError: assert.fail });
      const error = thrown(again);
      assert.equal(error.code, 'EADDRINUSE');
      assert.equal(error.message, `could not listen on vsock any:${port}: EADDRINUSE (Address already in use)`);
      server.close();
      again().close();
    },

    'keeps its connections when the server closes': async () => {
      const { promise, resolve } = Promise.withResolvers<VsockSocket>();
      const server = listen(resolve);
      const near = await connect(server.port);
      const far = await promise;
      server.close();
      far.pipe(far);
      near.end('still here');
      assert.equal((await buffer(near)).toString(), 'still here');
    },

    'gives children no vsock descriptor': async () => {
      const inherited = (): string => spawnSync('ls', ['/proc/self/fd'], { encoding: 'utf8' }).stdout;
      const before = inherited();
      using server = echoServer();
      const near = await connect(server.port);
      assert.equal(inherited(), before);
      await closed(near);
    },

    'works in workers, whose sockets go with them': async () => {
      using server = echoServer();
      const program = new URL('./native-vsock-worker.ts', import.meta.url);
      for (let round = 0; round < 3; round++) {
        const worker = new Worker(program, { workerData: { cid: LOOPBACK_CID, port: server.port, isSilent: false } });
        const [answer]: unknown[] = await once(worker, 'message');
        assert.equal(answer, 'equal');
        await worker.terminate();
      }
      assert.equal(epollThreads(), 1);
    },

    'leaves no descriptor behind after 200 connections and 200 refusals': async () => {
      const accepted: VsockSocket[] = [];
      using server = listen((socket) => accepted.push(socket));
      const round = async (): Promise<void> => {
        const near = await connect(server.port);
        await codeOf(connect(65_000));
        while (accepted.length === 0) await new Promise(setImmediate);
        await closed(near, ...accepted.splice(0));
      };
      await round();
      const before = openFds().size;
      for (let i = 0; i < 200; i++) await round();
      assert.equal(openFds().size, before);
    },
  });
}

await main();
