/**
 * Symptom: an operator whose token had expired went on to use the streams and event feeds that were open.
 * Cause: the expiry was looked at when a call began, and by nothing that ends a session.
 */
import { expect, test } from 'vitest';
import { connectTestOperator } from '../support/test-agent.ts';
import { startTestHub } from '../support/test-hub.ts';

test('the session of an operator ends when its token expires', async () => {
  await using hub = await startTestHub();
  const { body } = await hub.post('token.create', { kind: 'operator', role: 'viewer', ttlMs: 1000 });
  await using operator = await connectTestOperator(hub.url, String(body.result?.['token']));

  const { code, reason } = await operator.line.closed;

  expect(code).toBe(1008);
  expect(reason).toContain('expired');
});
