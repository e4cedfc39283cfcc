/** Run by native-asan.test.ts with leak detection: uses everything that needs no vsock, settles all of it, and ends by itself. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { requireNative } from '../../../native/index.ts';
import { selfTest } from '../../../native/self-test.ts';
import { thrown } from '../inspect.ts';

const api = requireNative();
const up = setInterval(() => {}, 1_000_000); // A wait for a process does not keep this one up.
await selfTest(api);
for (let round = 0; round < 50; round++) {
  const child = spawn('cat', { stdio: ['pipe', 'ignore', 'ignore'] });
  const closed = once(child, 'close');
  const pidfd = api.pidfdOpen(child.pid ?? 0);
  const canceled = api.pidfdWait(pidfd).catch(() => {});
  api.pidfdClose(pidfd);
  await canceled;
  const other = api.pidfdOpen(child.pid ?? 0);
  const wait = api.pidfdWait(other).catch(() => {});
  child.stdin.end();
  await closed;
  await wait;
  api.pidfdClose(other);

  const [near, far] = api.socketpair();
  api.sendFds(near, [near, far], Buffer.from('bytes'));
  for (const fd of [...api.recvFds(far, 16).fds, near, far]) api.closeFd(fd);
  thrown(() => api.recvFds(1_000_000, 16));
  thrown(() => api.liftPeerInput(1_000_000, process.pid, 16, 0));
  thrown(() => api.sdNotify('READY=1', '/nonexistent/notify'));
  thrown(() => api.unixListen('/nonexistent/socket', 1));
  thrown(() => api.reserveCid(0));
  thrown(() => api.vsockListen({ port: -1, backlog: 1 }));
}
clearInterval(up);
