/**
 * Symptom: a viewer made a host unreachable for everybody: calls to it ended with "256 requests of this line run already".
 * Cause: calls that follow events last as long as their caller likes, and one caller could have as many as the host takes.
 */
import { expect, test } from 'vitest';
import { addTestHost, connectTestOperator } from '../support/test-agent.ts';
import { startTestHub } from '../support/test-hub.ts';

const HOST_TAKES = 256;

test('one caller that follows events without end leaves a host to the others', async () => {
  await using hub = await startTestHub();
  await using _agent = await addTestHost(hub, 'edge', {
    methods: {
      'host.info': () => ({}),
      'vm.events': async (_params, { signal }) => {
        await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
        signal.throwIfAborted();
      },
    },
  });
  const { body } = await hub.post('token.create', { kind: 'operator', role: 'viewer' });
  const token = String(body.result?.['token']);
  await using first = await connectTestOperator(hub.url, token);
  await using second = await connectTestOperator(hub.url, token);
  const codes: unknown[] = [];
  for (const { line } of [first, second]) {
    for (let call = 0; call < HOST_TAKES; call++) {
      line.peer.call('vm.events', { follow: true }, { timeoutMs: 0 }).catch((error: { code: string }) => codes.push(error.code));
    }
  }
  // Answered in order, after all that came before it on that line.
  await second.line.peer.call('hub.info', {}).catch(() => {});

  expect(await hub.post('host.info', { host: 'edge' })).toMatchObject({ status: 200 });
  expect(codes).toContain('LIMIT_EXCEEDED');
});
