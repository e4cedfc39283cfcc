/** The worker of the programs beside it: connects as it is told, says how that went, and is ended with what it has open or pending. */
import { randomBytes } from 'node:crypto';
import { buffer } from 'node:stream/consumers';
import { parentPort, workerData } from 'node:worker_threads';
import { connectVsock } from '../../../native/vsock-socket.ts';

/** `silent`: the guest never answers, and the connect stays pending; otherwise the port echoes. */
const { cid, port, isSilent }: { cid: number; port: number; isSilent: boolean } = workerData;

const connect = (): ReturnType<typeof connectVsock> => connectVsock({ cid, port, timeoutMs: 60_000 });

async function echo(): Promise<string> {
  const socket = await connect();
  const sent = randomBytes(256 * 1024);
  socket.end(sent);
  const isEqual = sent.equals(await buffer(socket));
  await connect();
  return isEqual ? 'equal' : 'different';
}

const answer = isSilent ? 'pending' : await echo();
if (isSilent) void connect().catch(() => {});
// oxlint-disable-next-line unicorn/require-post-message-target-origin -- SAFETY: the rule means windows; a port has no origin.
parentPort?.postMessage(answer);
