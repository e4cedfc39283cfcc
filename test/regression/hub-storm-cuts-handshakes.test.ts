/**
 * Symptom: a fleet that came back at once took minutes, and `/readyz` of a hub that was there was not answered meanwhile.
 * Cause: of what had been begun most was thrown away. A host that was let in to its challenge could be turned away at its upgrade; and
 * connections whose hub had kept them waiting for two seconds were cut as if they were idle, and new ones, probes among them, unheard.
 */
import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { Strangers } from '../../hub/http/strangers.ts';
import { generateHostKey } from '../../shared/node/host-key.ts';
import { formatAuthorization } from '../../shared/protocol/handshake.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { askChallenge, enrolHost, makeProof, upgrade } from '../support/test-agent.ts';
import { startTestHub } from '../support/test-hub.ts';

test('a host whose challenge was admitted is not turned away at its upgrade', async () => {
  // One for the enrolment, one for the challenge.
  await using hub = await startTestHub({ addressHandshakeBurst: 2, addressHandshakesPerSecond: 1 });
  const key = generateHostKey();
  await enrolHost(hub.url, { host: 'edge', key, token: await hub.hub.bootstrap.enrolToken() });
  const challenge = await askChallenge(hub.url);
  const authorization = formatAuthorization(makeProof({ host: 'edge', key, challenge }));
  const outcome = await upgrade({ url: hub.url, authorization }, (socket) => {
    socket.terminate();
    return 'open';
  });
  expect(outcome).toBe('open');
});

test('a hub that is behind does not hold its own lateness against those that wait for it', () => {
  const clock = new FakeClock();
  let lagMs = 1000;
  const strangers = new Strangers(1, clock, () => lagMs);
  const [waiting, next, later] = [new PlayedSocket(1), new PlayedSocket(2), new PlayedSocket(3)];
  expect(strangers.add(asSocket(waiting))).toBe(true);
  clock.advance(3000);
  expect([strangers.add(asSocket(next)), waiting.destroyed, next.destroyed]).toEqual([false, false, true]);
  lagMs = 0;
  expect([strangers.add(asSocket(later)), waiting.destroyed]).toEqual([true, true]);
});

test('/readyz is answered while far more come than are let in', async () => {
  await using hub = await startTestHub({ handshakesPerSecond: 20, handshakeBurst: 20 });
  const over = new AbortController();
  const statuses = new Set<number>();
  const coming = Array.from({ length: 100 }, async () => {
    while (!over.signal.aborted) {
      const response = await fetch(`${hub.url}/agent/challenge`, { headers: { connection: 'close' } });
      statuses.add(response.status);
      await response.text();
      await sleep(5, undefined, { signal: over.signal }).catch(() => {});
    }
  });
  const answers: number[] = [];
  for (let count = 0; count < 30; count++) {
    const response = await fetch(`${hub.url}/readyz`, { headers: { connection: 'close' } });
    answers.push(response.status);
    await response.text();
  }
  over.abort();
  await Promise.all(coming);
  expect(new Set(answers)).toEqual(new Set([200]));
  expect(statuses).toEqual(new Set([200, 429]));
});

class PlayedSocket extends EventEmitter {
  readonly remoteAddress = '10.0.0.1';
  readonly remotePort: number;
  destroyed = false;

  constructor(port: number) {
    super();
    this.remotePort = port;
  }

  destroy(): void {
    this.destroyed = true;
    this.emit('close');
  }
}

function asSocket(played: PlayedSocket): Socket {
  // SAFETY: all that Strangers uses of one.
  return played as unknown as Socket;
}
