/** Challenges for hosts that come faster than the hub lets them in, on virtual time. */
import { EventEmitter } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { expect, it } from 'vitest';
import { tooManyHandshakes } from '../../hub/auth/refused.ts';
import { challengeAnswers } from '../../hub/http/challenge.ts';
import { CHALLENGE_PATH } from '../../shared/protocol/handshake.ts';
import { FakeClock } from '../support/fake-clock.ts';

class PlayedResponse extends EventEmitter {
  status = 0;
  retryAfter: string | undefined;
  writeHead(status: number, headers: Readonly<Record<string, string>>): void {
    this.status = status;
    this.retryAfter = headers['retry-after'];
  }
  end(): void {
    this.emit('close');
  }
}

/** A hub that lets one in each second, and tells each its turn. */
function oneASecond(maxHeld: number) {
  const clock = new FakeClock();
  let nextMs = 0;
  let refused = 0;
  const admitted: number[] = [];
  const answer = challengeAnswers({
    hubId: 'hub',
    behindProxy: false,
    admit: () => {
      const turnMs = admitted.length === 0 ? 0 : (admitted.at(-1) ?? 0) + 1000;
      if (clock.now() >= turnMs) return void admitted.push(clock.now());
      nextMs = Math.max(nextMs + 1000, turnMs);
      throw tooManyHandshakes(nextMs - clock.now());
    },
    issueChallenge: () => ({ nonce: 'n', expiresAt: 't' }),
    onRefused: () => {
      refused += 1;
    },
    maxHeld,
    clock,
  });
  const ask = (): PlayedResponse => {
    const response = new PlayedResponse();
    const request = { method: 'GET', url: CHALLENGE_PATH, headers: {}, socket: { remoteAddress: '10.0.0.1' } };
    // SAFETY: nothing else of the two is used for a challenge.
    expect(answer(request as unknown as IncomingMessage, response as unknown as ServerResponse)).toBe(true);
    return response;
  };
  return { clock, ask, refused: () => refused, admitted };
}

it('a host whose turn comes soon is answered then, and one whose turn is later is told when to come', () => {
  const { clock, ask, refused } = oneASecond(10);
  const all = Array.from({ length: 6 }, ask);
  const statuses = () => all.map(({ status }) => status);
  expect(statuses()).toEqual([200, 0, 0, 0, 429, 429]);
  expect(all.map(({ retryAfter }) => retryAfter)).toEqual([undefined, undefined, undefined, undefined, '4', '5']);
  clock.advance(1000);
  expect(statuses()).toEqual([200, 200, 0, 0, 429, 429]);
  clock.advance(2000);
  expect(statuses()).toEqual([200, 200, 200, 200, 429, 429]);
  expect(refused()).toBe(2);
});

it('so many are held and no more, and whoever has left makes room and takes no turn', () => {
  const { clock, ask, admitted } = oneASecond(2);
  const [first, second, third, fourth] = [ask(), ask(), ask(), ask()];
  expect([first, second, third, fourth].map(({ status }) => status)).toEqual([200, 0, 0, 429]);
  second.emit('close');
  clock.advance(1000);
  expect([second.status, third.status, admitted.length]).toEqual([0, 0, 1]);
  clock.advance(1000);
  expect([third.status, admitted.length]).toEqual([200, 2]);
  expect(ask().status).toBe(0);
});
