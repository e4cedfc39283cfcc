/**
 * Symptom: one message of a hub could keep an agent away for 49 days.
 * Cause: the spread of a GOAWAY was believed whatever it was, unlike a Retry-After.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Link } from '../../agent/link/link.ts';
import { FakeHub } from '../support/fake-hub.ts';

test('no hub is left alone for more than an hour because it wishes so', async () => {
  await using hub = await FakeHub.start();
  const stateDir = await mkdtemp(join(tmpdir(), 'fl-link-'));
  const waiting = Promise.withResolvers<number>();
  const link = new Link({
    config: {
      hub: hub.address,
      host: 'edge-1',
      labels: {},
      stateDir,
      token: 'token-1',
      behindProxy: false,
      dialTimeout: 5000,
      maxBackoff: 1000,
    },
    service: { onRequest: async () => ({}), onOpen: () => {} },
    logger: { debug() {}, info() {}, warn() {}, error() {} },
    random: () => 0.999_999,
    onState: ({ state, retryInMs }) => state === 'backoff' && waiting.resolve(retryInMs ?? Number.NaN),
  });
  try {
    const connected = hub.nextLine();
    link.start();
    const line = await connected;
    line.goAway({ drainMs: 0, spreadMs: 0xffff_ffff, reason: 'go' });

    expect(await waiting.promise).toBeLessThanOrEqual(3_600_000);
  } finally {
    await link.stop(0);
    await rm(stateDir, { recursive: true });
  }
});
