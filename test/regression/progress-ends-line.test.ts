/**
 * Symptom: a host ended the line of an operator who followed something on it, with all his streams and calls to other hosts.
 * Cause: progress had no bound of its own. What a host says of one call was more than the operator read, and that ends a line.
 */
import { expect, test } from 'vitest';
import { addTestHost, connectTestOperator } from '../support/test-agent.ts';
import { startTestHub } from '../support/test-hub.ts';

const PIECE = 'x'.repeat(200_000);
const PIECES = 200;

test('progress that is not read ends its call, and no more', async () => {
  await using hub = await startTestHub();
  let hasBegun = false;
  await using agent = await addTestHost(hub, 'edge', {
    methods: {
      'vm.get': () => ({ name: 'web' }),
      'vm.events': async ({ follow }, { progress, signal }) => {
        if (follow !== true) return { epoch: 'e', events: [], missed: 0, lastSeq: 0 };
        hasBegun = true;
        for (let piece = 0; piece < PIECES && !signal.aborted; piece++) {
          progress(PIECE);
          // Answered once the hub has read the piece.
          await agent.line.peer.call('is.read', {}).catch(() => {});
        }
        return {};
      },
    },
  });
  await using operator = await connectTestOperator(hub.url, hub.adminToken);
  const { peer } = operator.line;
  operator.socket.pause();
  const following = peer.call('vm.events', { host: 'edge', follow: true }, { timeoutMs: 0, onProgress: () => {} });
  const ended = following.catch((error: { code: string; message: string }) => error);
  await expect.poll(() => hasBegun).toBe(true);
  await expect.poll(() => agent.line.peer.inFlightCount, { timeout: 20_000 }).toBe(0);
  operator.socket.resume();
  expect(await ended).toMatchObject({ code: 'LIMIT_EXCEEDED', message: expect.stringContaining('more progress than is read') });
  expect(await peer.call('vm.get', { host: 'edge', vm: 'web' })).toEqual({ name: 'web' });
});
