/**
 * The challenge of a host that is about to connect, answered by Node's own means: a fleet that comes back asks for as many as it has hosts,
 * all at once, and the framework's objects would cost more than the answer.
 *
 * A host whose turn comes soon is answered then, on the connection that it has: to be turned away and to come again costs it and the hub as much
 * as to be let in. Whose turn is later, or where too many wait, is told when to come.
 *
 *     admitted ──▶ challenge
 *     too many ──▶ its turn is within HOLD_MS: held ── its turn ──▶ admitted, or too many once more
 *         └──▶ 429 with Retry-After                   └ it has left
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Clock } from '../../shared/clock.ts';
import { CHALLENGE_PATH } from '../../shared/protocol/handshake.ts';
import type { IssuedChallenge } from '../auth/challenges.ts';
import { type HandshakeRefused, refusalBody, refusalHeaders, toRefusal } from '../auth/refused.ts';
import { remoteAddress } from './address.ts';

export interface ChallengeServices {
  readonly hubId: string;
  readonly behindProxy: boolean;
  /** Takes one handshake of that address. @throws HandshakeRefused */
  admit(address: string): void;
  /** @throws FairleadError LIMIT_EXCEEDED */
  issueChallenge(): IssuedChallenge;
  onRefused(refusal: HandshakeRefused): void;
  /** How many may be held at once. */
  readonly maxHeld: number;
  readonly clock: Clock;
}

/** In all, of one request: far less than a host waits for an answer, and less than a stranger may take for a handshake. */
const HOLD_MS = 3000;

/** Answers, or gives false for a request that is for something else. */
export type AnswerChallenge = (request: IncomingMessage, response: ServerResponse) => boolean;

export function challengeAnswers(services: ChallengeServices): AnswerChallenge {
  const { hubId, behindProxy, admit, issueChallenge, onRefused, maxHeld, clock } = services;
  let held = 0;

  const hold = (request: IncomingMessage, response: ServerResponse, waitMs: number, heldMs: number): void => {
    held += 1;
    const end = (): void => {
      held -= 1;
      timer.cancel();
      response.off('close', end);
    };
    const timer = clock.setTimeout(() => {
      end();
      answer(request, response, heldMs + waitMs);
    }, waitMs);
    response.once('close', end);
  };

  const answer = (request: IncomingMessage, response: ServerResponse, heldMs: number): void => {
    try {
      admit(remoteAddress(request, behindProxy));
      send(response, 200, { ...issueChallenge(), hubId }, { 'cache-control': 'no-store' });
    } catch (error) {
      const refusal = toRefusal(error);
      const waitMs = refusal.reason === 'rate' ? refusal.retryAfterMs : undefined;
      if (waitMs !== undefined && heldMs + waitMs <= HOLD_MS && held < maxHeld) return hold(request, response, waitMs, heldMs);
      onRefused(refusal);
      send(response, refusal.status, refusalBody(refusal), refusalHeaders(refusal));
    }
  };

  return (request, response) => {
    if (request.method !== 'GET' || request.url !== CHALLENGE_PATH) return false;
    answer(request, response, 0);
    return true;
  };
}

function send(response: ServerResponse, status: number, body: object, headers: Readonly<Record<string, string>>): void {
  const text = JSON.stringify(body);
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text), ...headers });
  response.end(text);
}
