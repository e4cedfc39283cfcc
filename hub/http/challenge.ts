/**
 * The challenge of a host that is about to connect, answered by Node's own means: a fleet that comes back asks for as many as it has hosts,
 * all at once, and the framework's objects would cost more than the answer.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
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
}

/** Answers, or gives false for a request that is for something else. */
export type AnswerChallenge = (request: IncomingMessage, response: ServerResponse) => boolean;

export function challengeAnswers(services: ChallengeServices): AnswerChallenge {
  const { hubId, behindProxy, admit, issueChallenge, onRefused } = services;
  return (request, response) => {
    if (request.method !== 'GET' || request.url !== CHALLENGE_PATH) return false;
    try {
      admit(remoteAddress(request, behindProxy));
      send(response, 200, { ...issueChallenge(), hubId }, { 'cache-control': 'no-store' });
    } catch (error) {
      const refusal = toRefusal(error);
      onRefused(refusal);
      send(response, refusal.status, refusalBody(refusal), refusalHeaders(refusal));
    }
    return true;
  };
}

function send(response: ServerResponse, status: number, body: object, headers: Readonly<Record<string, string>>): void {
  const text = JSON.stringify(body);
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text), ...headers });
  response.end(text);
}
