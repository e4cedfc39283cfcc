/**
 * Symptom: a POST of something that is no request was never answered, and one that follows events went on after its token was revoked.
 * Cause: only requests make the peer of a POST answer, and revoking closed WebSockets alone.
 */
import { expect, test } from 'vitest';
import { addTestHost } from '../support/test-agent.ts';
import { postRpc, startTestHub } from '../support/test-hub.ts';

test.each([
  { jsonrpc: '2.0', id: 1, result: {} },
  { jsonrpc: '2.0', id: 1, error: { code: 1, message: 'x' } },
  { jsonrpc: '2.0', method: '$/cancelRequest', params: { id: 1 } },
  { jsonrpc: '2.0', method: 'vm.event', params: {} },
])('a POST of $method $result is refused', async (body) => {
  await using hub = await startTestHub();
  expect(await postRpc(hub.url, hub.adminToken, body)).toMatchObject({ status: 400 });
});

test('a POST ends when its token is revoked', async () => {
  await using hub = await startTestHub();
  const began = Promise.withResolvers<void>();
  const ended = Promise.withResolvers<void>();
  await using _agent = await addTestHost(hub, 'edge', {
    methods: {
      'vm.events': async (_params, { signal }) => {
        signal.addEventListener('abort', () => ended.resolve(), { once: true });
        began.resolve();
        await ended.promise;
        signal.throwIfAborted();
      },
    },
  });
  const { body } = await hub.post('token.create', { kind: 'operator', role: 'viewer' });
  // SAFETY: the contract's result.
  const { token, record } = body.result as { token: string; record: { id: string } };
  const following = hub.post('vm.events', { host: 'edge', follow: true, _meta: { timeoutMs: 0 } }, token);
  await began.promise;
  await hub.post('token.revoke', { id: record.id });

  expect(await following).toMatchObject({ status: 401, body: { error: { data: { code: 'UNAUTHENTICATED' } } } });
  await ended.promise;
});
