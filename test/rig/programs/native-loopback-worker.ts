/** The worker of native-loopback.ts: an echo over vsock, then a connect that nobody accepts, left pending. */
import { randomBytes } from 'node:crypto';
import { buffer } from 'node:stream/consumers';
import { parentPort, workerData } from 'node:worker_threads';
import { requireNative } from '../../../native/index.ts';
import { connectVsock } from '../../../native/vsock-socket.ts';

const { port }: { port: number } = workerData;
const socket = await connectVsock({ cid: 1, port, timeoutMs: 10_000 });
const sent = randomBytes(256 * 1024);
socket.end(sent);
const isEqual = sent.equals(await buffer(socket));
void requireNative()
  .vsockConnect({ cid: 1, port, timeoutMs: 60_000 })
  .catch(() => {});
// oxlint-disable-next-line unicorn/require-post-message-target-origin -- SAFETY: the rule means windows; a port has no origin.
parentPort?.postMessage(isEqual ? 'equal' : 'different');
