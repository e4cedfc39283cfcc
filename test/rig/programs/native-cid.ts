/**
 * Context ids and connect's limits on a real vhost, run inside a VM that has /dev/vhost-vsock. A CID that is reserved and that no QEMU
 * serves is a guest that never answers.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { vsockCapability } from '../../../native/capability.ts';
import { requireNative } from '../../../native/index.ts';
import { openFds, thrown } from '../../support/inspect.ts';
import { runCases } from '../../support/vm-cases.ts';

const api = requireNative();

/** Asserts that a connect to a guest that never answers ends with ETIMEDOUT, and returns after how long. */
async function timedOutMs(cid: number, timeoutMs: number): Promise<number> {
  const start = performance.now();
  await assert.rejects(api.vsockConnect({ cid, port: 1234, timeoutMs }), {
    code: 'ETIMEDOUT',
    message:
      `could not connect to vsock ${cid}:1234: ETIMEDOUT (Connection timed out); ` +
      `the guest did not answer within ${timeoutMs} ms: booting, paused or hung`,
  });
  return performance.now() - start;
}

await runCases({
  'says that this host can serve guests': async () => {
    assert.deepEqual(vsockCapability(), { available: true, transport: 'vhost-vsock', localCid: 2 });
  },

  'reserves the CID that is asked for, once': async () => {
    const held = api.reserveCid(4_242);
    assert.equal(held.cid, 4_242);
    const error = thrown(() => api.reserveCid(4_242));
    assert.equal(error.code, 'EADDRINUSE');
    assert.equal(error.syscall, 'ioctl');
    assert.equal(
      error.message,
      'could not reserve CID 4242: EADDRINUSE (Address already in use); another VM of this host has it',
    );
    api.closeFd(held.fd);
    api.closeFd(api.reserveCid(4_242).fd);
  },

  'reserves different ones where none is asked for': async () => {
    const held = Array.from({ length: 100 }, () => api.reserveCid());
    assert.equal(new Set(held.map(({ cid }) => cid)).size, 100);
    assert.ok(held.every(({ cid }) => cid >= 3 && cid <= 0xffff_fffe));
    for (const { fd } of held) api.closeFd(fd);
  },

  'passes over those that are taken, and goes round at the end': async () => {
    const taken = [500, 501, 0xffff_fffd, 0xffff_fffe, 3].map((cid) => api.reserveCid(cid));
    const found = [500, 0xffff_fffd].map((from) => api.reserveCid(undefined, from));
    assert.deepEqual(
      found.map(({ cid }) => cid),
      [502, 4],
    );
    for (const { fd } of [...taken, ...found]) api.closeFd(fd);
  },

  'leaves the CID with a child that inherits it, until the child ends': async () => {
    const { fd, cid } = api.reserveCid();
    const child = spawn('cat', { stdio: ['pipe', 'ignore', 'ignore', fd] });
    api.closeFd(fd);
    assert.equal(thrown(() => api.reserveCid(cid)).code, 'EADDRINUSE');
    child.kill('SIGKILL');
    await once(child, 'close');
    api.closeFd(api.reserveCid(cid).fd);
  },

  'gives up after its own time, shorter or longer than the two seconds of the kernel': async () => {
    const { fd, cid } = api.reserveCid();
    const ended: string[] = [];
    const [long, short] = await Promise.all([
      timedOutMs(cid, 3_000).finally(() => ended.push('long')),
      timedOutMs(cid, 300).finally(() => ended.push('short')),
    ]);
    assert.deepEqual(ended, ['short', 'long']);
    assert.ok(short >= 299 && long >= 2_999, `${short} and ${long} ms`);
    api.closeFd(fd);
    return `${Math.round(short)} and ${Math.round(long)} ms`;
  },

  'is cancelled in the middle of the wait': async () => {
    const { fd, cid } = api.reserveCid();
    const before = openFds().size;
    const controller = new AbortController();
    const attempt = api.vsockConnect({ cid, port: 1234, timeoutMs: 60_000, signal: controller.signal });
    for (let turn = 0; turn < 100; turn++) await new Promise(setImmediate);
    assert.equal(openFds().size, before + 1);
    controller.abort('changed my mind');
    await assert.rejects(attempt, { code: 'ECANCELED', cause: 'changed my mind' });
    assert.equal(openFds().size, before);
    api.closeFd(fd);
  },

  'is freed with the worker that waits for it': async () => {
    const { fd, cid } = api.reserveCid();
    const before = openFds();
    const worker = new Worker(new URL('./native-vsock-worker.ts', import.meta.url), {
      workerData: { cid, port: 1234, isSilent: true },
    });
    const [answer]: unknown[] = await once(worker, 'message');
    assert.equal(answer, 'pending');
    await worker.terminate();
    const sockets = (fds: Map<number, string>): number => [...fds.values()].filter((name) => name.startsWith('socket:')).length;
    assert.equal(sockets(openFds()), sockets(before));
    api.closeFd(fd);
  },

  'waits for 200 guests at once over one thread': async () => {
    const { fd, cid } = api.reserveCid();
    const start = performance.now();
    await Promise.all(Array.from({ length: 200 }, () => timedOutMs(cid, 1_000)));
    const ms = performance.now() - start;
    // One after another they would take 200 s.
    assert.ok(ms < 100_000, `${ms} ms`);
    api.closeFd(fd);
    return `${Math.round(ms)} ms`;
  },
});
