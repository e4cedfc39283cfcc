/**
 * Two peers head to head under arbitrary interleavings of call, delivery, answer, progress, cancel, time and close.
 *
 * Whatever happens: each call settles exactly once and with an outcome that the history allows; each request that was delivered gets
 * at most one response, and exactly one when its peer was not closed; no timer, no pending call and no running request is left.
 */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FairleadError, type JsonObject } from '../../shared/errors.ts';
import { readMessage } from '../../shared/jsonrpc/envelope.ts';
import { JsonRpcPeer } from '../../shared/jsonrpc/peer.ts';
import type { RequestContext } from '../../shared/jsonrpc/types.ts';
import { PeerPair, turn } from '../support/peer-pair.ts';

type Step =
  | { readonly do: 'call'; readonly timeoutMs: number }
  | { readonly do: 'deliver'; readonly to: 'callee' | 'caller'; readonly count: number }
  | { readonly do: 'answer' | 'fail' | 'progress' | 'cancel'; readonly index: number }
  | { readonly do: 'advance'; readonly ms: number }
  | { readonly do: 'drop' };

const index = fc.nat({ max: 30 });
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('call' as const), timeoutMs: fc.constantFrom(0, 1, 50, 60_000) }) },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('deliver' as const),
      to: fc.constantFrom('callee' as const, 'caller' as const),
      count: fc.integer({ min: 1, max: 4 }),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constantFrom('answer' as const, 'fail' as const, 'progress' as const, 'cancel' as const),
      index,
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('advance' as const), ms: fc.integer({ min: 1, max: 100 }) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('drop' as const) }) },
);

interface Call {
  readonly number: number;
  readonly controller: AbortController;
  readonly outcomes: string[];
  readonly progress: unknown[];
}

interface Running {
  readonly number: unknown;
  readonly context: RequestContext;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
}

class Model {
  readonly calls: Call[] = [];
  readonly running: Running[] = [];
  readonly pair = new PeerPair({
    limits: { maxConcurrentRequests: 5, maxPendingCalls: 8 },
    callee: { onRequest: (_method, params, context) => this.#run(params, context) },
  });
  dropped = false;

  apply(step: Step): void {
    switch (step.do) {
      case 'call':
        return this.#call(step.timeoutMs);
      case 'deliver':
        return step.to === 'callee' ? this.pair.deliverToCallee(step.count) : this.pair.deliverToCaller(step.count);
      case 'answer':
        return this.running[step.index]?.resolve(this.running[step.index]?.number);
      case 'fail':
        return this.running[step.index]?.reject(new FairleadError('WRONG_STATE', 'no'));
      case 'progress':
        return this.running[step.index]?.context.progress(this.running[step.index]?.number);
      case 'cancel':
        return this.calls[step.index]?.controller.abort();
      case 'advance':
        return this.pair.clock.advance(step.ms);
      case 'drop':
        this.dropped = true;
        return this.pair.drop();
    }
  }

  #call(timeoutMs: number): void {
    const call: Call = { number: this.calls.length, controller: new AbortController(), outcomes: [], progress: [] };
    this.calls.push(call);
    this.pair.caller
      .call(
        'a.b',
        { number: call.number },
        { timeoutMs, signal: call.controller.signal, onProgress: (value) => call.progress.push(value) },
      )
      .then(
        (value) => call.outcomes.push(`result ${String(value)}`),
        (error: unknown) => call.outcomes.push(error instanceof FairleadError ? error.code : 'not a FairleadError'),
      );
  }

  #run(params: JsonObject, context: RequestContext): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.running.push({ number: params['number'], context, resolve, reject });
      context.signal.addEventListener('abort', () => reject(context.signal.reason));
    });
  }
}

const ALLOWED = ['WRONG_STATE', 'TIMEOUT', 'CANCELLED', 'INTERRUPTED', 'LIMIT_EXCEEDED', 'CONNECT_FAILED'];

describe('two peers under arbitrary interleavings', () => {
  it('settle each call exactly once, answer each request once, and leave nothing behind', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), fc.boolean(), async (steps, yieldBetween) => {
        const model = new Model();
        for (const each of steps) {
          model.apply(each);
          if (yieldBetween) await Promise.resolve();
        }
        const { pair } = model;
        // The end: what still runs is answered, what is on its way arrives, and what nobody answers has its deadline.
        for (const running of model.running) running.resolve(running.number);
        await pair.settle();
        for (const running of model.running) running.resolve(running.number);
        await pair.settle();

        for (const call of model.calls) {
          expect(call.outcomes).toHaveLength(1);
          expect([...ALLOWED, `result ${call.number}`]).toContain(call.outcomes[0]);
          expect(call.progress.every((value) => value === call.number)).toBe(true);
        }
        const requests = pair.sent
          .filter((entry) => entry.by === 'caller' && 'id' in entry.message)
          .map((entry) => entry.message['id']);
        const responses = pair.sent
          .filter((entry) => entry.by === 'callee' && 'id' in entry.message)
          .map((entry) => entry.message['id']);
        expect(new Set(responses).size).toBe(responses.length);
        expect(requests).toEqual(expect.arrayContaining(responses));
        expect(responses.length).toBeGreaterThanOrEqual(model.dropped ? 0 : requests.length);
        expect(pair.protocolErrors).toEqual([]);
        expect([pair.caller.pendingCount, pair.callee.inFlightCount]).toEqual([0, 0]);
        const { timers, ...due } = pair.whatIsDue();
        expect(timers).toBeLessThanOrEqual(2);
        expect(due).toEqual({ left: 0, sent: 0 });
        expect(pair.caller.stats.unknownResponses).toBe(0);
      }),
      { numRuns: 400 },
    );
  });
});

describe('whatever text arrives', () => {
  const member = fc.oneof(
    fc.constantFrom('2.0', 'a.b', '$/cancelRequest', '$/progress', 'rpc#00001'),
    fc.jsonValue(),
    fc.record({
      id: fc.constantFrom('rpc#00001', 1),
      token: fc.constant('rpc#00001'),
      value: fc.jsonValue(),
      _meta: fc.jsonValue(),
    }),
  );
  const nearlyMessage = fc
    .dictionary(fc.constantFrom('jsonrpc', 'id', 'method', 'params', 'result', 'error', 'x'), member)
    .map((message) => JSON.stringify({ jsonrpc: '2.0', ...message }));
  const anyText = fc.oneof(fc.string(), fc.json(), nearlyMessage);

  it('is read without a throw, and a peer survives it', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(anyText, { maxLength: 10 }), async (texts) => {
        const answers: string[] = [];
        const peer = new JsonRpcPeer({
          send: (text) => answers.push(text),
          onRequest: async (_method, params) => params,
          onProtocolError: () => {},
        });
        const call = peer.call('a.b', {}, { timeoutMs: 0 }).then(
          () => 'settled',
          () => 'settled',
        );
        for (const text of texts) {
          expect(readMessage(text, 1000)).toHaveProperty('kind');
          peer.receive(text);
        }
        await turn();
        expect(peer.inFlightCount).toBe(0);
        for (const answer of answers) expect(readMessage(answer, 256 * 1024).kind).not.toBe('invalid');
        peer.close(new FairleadError('INTERRUPTED', 'end'));
        expect(await call).toBe('settled');
      }),
      { numRuns: 500 },
    );
  });
});
