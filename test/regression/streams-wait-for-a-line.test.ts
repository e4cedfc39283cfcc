/**
 * Symptom: streams stood still for up to half a second after a connection dropped, though the hub was there and took the agent back in 10 ms.
 * Cause: the first wait before the agent dialled again was as long as that of a host that nobody waits for.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { Link } from '../../agent/link/link.ts';
import type { Line } from '../../shared/line/line.ts';
import { MuxChannel } from '../../shared/mux/channel.ts';
import { FakeHub } from '../support/fake-hub.ts';

/** The longest wait of each kind, in milliseconds. */
const SHORT_MS = 50;
const USUAL_MS = 500;
const openStream = (line: Line) => MuxChannel.open(line.mux, {});

/** How long an agent waits before it dials again after `end` has ended its line, if chance makes that as long as it can be. */
async function waitAfter(end: (line: Line, drop: () => void) => Promise<void> | void): Promise<number> {
  await using hub = await FakeHub.start();
  const stateDir = await mkdtemp(join(tmpdir(), 'fl-link-'));
  onTestFinished(() => rm(stateDir, { recursive: true }));
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
    service: { onRequest: async () => ({}), onOpen: (stream, _meta, session) => void MuxChannel.accept(session, stream, {}) },
    logger: { debug() {}, info() {}, warn() {}, error() {} },
    random: () => 0.999_999,
    onState: ({ state, retryInMs }) => state === 'backoff' && waiting.resolve(retryInMs ?? Number.NaN),
  });
  try {
    let drop = (): void => {};
    hub.on('upgrade', ({ socket }) => {
      drop = () => void socket.destroy();
    });
    const connected = hub.nextLine();
    link.start();
    await end(await connected, () => drop());
    return await waiting.promise;
  } finally {
    await link.stop(0);
  }
}

test('streams have a line again as soon as can be after it dropped', async () => {
  const waitMs = await waitAfter(async (line, drop) => {
    await openStream(line);
    drop();
  });
  expect(waitMs).toBeLessThanOrEqual(SHORT_MS);
});

test('a host without streams keeps to its spread', async () => {
  const waitMs = await waitAfter(async (line, drop) => {
    await line.ready;
    drop();
  });
  expect(waitMs).toBeGreaterThan(USUAL_MS - SHORT_MS);
});

test('so does one whose hub leaves, also where streams wait', async () => {
  const waitMs = await waitAfter(async (line) => {
    await openStream(line);
    line.close(1001, 'leaving');
  });
  expect(waitMs).toBeGreaterThan(USUAL_MS - SHORT_MS);
});
