/** Run in a worker thread by native-worker.test.ts: begins waits, says so, and stays until it is ended. */
import { setInterval } from 'node:timers';
import { parentPort } from 'node:worker_threads';
import { requireNative } from '../../../native/index.ts';
import { selfTest } from '../../../native/self-test.ts';

const api = requireNative();
await selfTest(api);
for (let i = 0; i < 10; i++) void api.pidfdWait(api.pidfdOpen(process.pid));
// oxlint-disable-next-line unicorn/require-post-message-target-origin -- SAFETY: the rule means windows; a port has no origin.
parentPort?.postMessage('waiting');
setInterval(() => {}, 1_000_000);
