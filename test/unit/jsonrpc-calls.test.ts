import { describe, expect, it } from 'vitest';
import { FairleadError } from '../../shared/errors.ts';
import { timeoutForCallee } from '../../shared/jsonrpc/outgoing.ts';
import { JsonRpcPeer } from '../../shared/jsonrpc/peer.ts';
import { PeerPair, rejection, turn } from '../support/peer-pair.ts';

/** A callee that never answers. */
const silent = { onRequest: () => new Promise<never>(() => {}) };

const unexpected = (error: FairleadError): void => expect.unreachable(error.message);

describe('a call', () => {
  it('resolves with what the handler returned', async () => {
    const pair = new PeerPair({ callee: { onRequest: async (method, params) => ({ method, params }) } });
    const call = pair.caller.call('vm.get', { vm: 'web' });
    expect(pair.caller.pendingCount).toBe(1);
    await pair.settle();
    expect(await call).toEqual({ method: 'vm.get', params: { vm: 'web' } });
    expect(pair.caller.pendingCount).toBe(0);
    const { timers, ...due } = pair.whatIsDue();
    expect(timers).toBeLessThanOrEqual(2);
    expect(due).toEqual({ left: 0, sent: 0 });
  });

  it('is answered even when the answer comes while it is being sent', async () => {
    const peer: JsonRpcPeer = new JsonRpcPeer({
      send: (text) => peer.receive(JSON.stringify({ jsonrpc: '2.0', id: JSON.parse(text).id, result: 1 })),
      onRequest: async () => null,
      onProtocolError: unexpected,
    });
    expect(await peer.call('a.b', {})).toBe(1);
  });

  it('resolves with null when the handler returned nothing', async () => {
    const pair = new PeerPair({ callee: { onRequest: async () => undefined } });
    const call = pair.caller.call('a.b', {});
    await pair.settle();
    expect(await call).toBeNull();
  });

  it('rejects with the code, message and details that the other side gave', async () => {
    const thrown = new FairleadError('WRONG_STATE', 'vm web is stopped', { details: { state: 'stopped' } });
    const pair = new PeerPair({ callee: { onRequest: () => Promise.reject(thrown) } });
    const call = rejection(pair.caller.call('vm.pause', { vm: 'web' }));
    await pair.settle();
    const error = await call;
    expect(error).toMatchObject({
      code: 'WRONG_STATE',
      message: 'vm web is stopped',
      details: { state: 'stopped' },
      retryable: false,
    });
    expect(pair.sent[1]?.message['error']).toMatchObject({ code: 1202, data: { code: 'WRONG_STATE', retryable: false } });
  });

  it('keeps a code that this side does not know in the details', async () => {
    const pair = new PeerPair({ callee: silent });
    const call = rejection(pair.caller.call('a.b', {}));
    const error = { code: 4711, message: 'odd', data: { code: 'FROM_THE_FUTURE', retryable: true } };
    pair.caller.receive(JSON.stringify({ jsonrpc: '2.0', id: 'rpc#00001', error }));
    expect(await call).toMatchObject({
      code: 'INTERNAL',
      message: 'odd',
      details: { peerCode: 'FROM_THE_FUTURE', peerNumber: 4711 },
    });
  });

  it('is told apart from others that run at once, whatever the order of the answers', async () => {
    const answers: ((value: unknown) => void)[] = [];
    const pair = new PeerPair({ callee: { onRequest: () => new Promise((resolve) => answers.push(resolve)) } });
    const calls = ['a', 'b', 'c'].map((name) => pair.caller.call(name, {}));
    await pair.settle();
    answers[2]?.('third');
    answers[0]?.('first');
    answers[1]?.('second');
    await pair.settle();
    expect(await Promise.all(calls)).toEqual(['first', 'second', 'third']);
  });
});

describe('a deadline', () => {
  it('travels as remaining time, a little less than the caller waits', async () => {
    const pair = new PeerPair({ callee: silent });
    const call = rejection(pair.caller.call('a.b', {}, { timeoutMs: 10_000 }));
    expect(pair.sent[0]?.message['params']).toEqual({ _meta: { timeoutMs: 9900 } });
    pair.clock.advance(9_999);
    expect(pair.caller.pendingCount).toBe(1);
    pair.clock.advance(1);
    expect(await call).toMatchObject({ code: 'TIMEOUT', message: 'a.b (rpc#00001) had no answer within 10000 ms' });
    expect(pair.sent[1]?.message).toEqual({ jsonrpc: '2.0', method: '$/cancelRequest', params: { id: 'rpc#00001' } });
  });

  it('is 60 s for a call that states none, and none for a call that states 0', async () => {
    const pair = new PeerPair({ callee: silent });
    const usual = rejection(pair.caller.call('a.b', {}));
    const endless = rejection(pair.caller.call('a.b', {}, { timeoutMs: 0 }));
    pair.clock.advance(60_000);
    expect((await usual).code).toBe('TIMEOUT');
    pair.clock.advance(1_000_000_000);
    expect(pair.caller.pendingCount).toBe(1);
    pair.drop();
    expect((await endless).code).toBe('INTERRUPTED');
  });

  it.each([Number.POSITIVE_INFINITY, Number.NaN, -1, 2 ** 31])('of %s is refused before anything is sent', async (timeoutMs) => {
    const pair = new PeerPair();
    const error = await rejection(pair.caller.call('a.b', {}, { timeoutMs }));
    expect(error.code).toBe('INVALID_PARAMS');
    expect(pair.sent).toEqual([]);
  });

  it.each([
    [0, 0],
    [1, 1],
    [20, 19],
    [1000, 950],
    [2000, 1900],
    [60_000, 59_900],
  ])('of %d ms is told to the callee as %d ms', (timeoutMs, told) => {
    expect(timeoutForCallee(timeoutMs)).toBe(told);
  });
});

describe('an aborted call', () => {
  it('rejects at once with CANCELLED and tells the callee', async () => {
    const pair = new PeerPair({ callee: silent });
    const controller = new AbortController();
    const call = rejection(pair.caller.call('a.b', {}, { signal: controller.signal }));
    controller.abort();
    expect((await call).code).toBe('CANCELLED');
    expect(pair.sent.at(-1)?.message).toMatchObject({ method: '$/cancelRequest', params: { id: 'rpc#00001' } });
    await pair.settle();
    expect(pair.caller.pendingCount).toBe(0);
  });

  it("rejects with the signal's own reason when that says why", async () => {
    const pair = new PeerPair({ callee: silent });
    const reason = new FairleadError('TIMEOUT', 'the rollout ran out of time');
    expect(await rejection(pair.caller.call('a.b', {}, { signal: AbortSignal.abort(reason) }))).toBe(reason);
    expect(pair.sent).toEqual([]);
  });

  it('counts the answer that comes too late, and tells it from one that was never asked for', async () => {
    const pair = new PeerPair();
    const controller = new AbortController();
    const call = rejection(pair.caller.call('a.b', {}, { signal: controller.signal }));
    pair.deliverToCallee();
    controller.abort();
    await call;
    await pair.settle();
    pair.caller.receive('{"jsonrpc":"2.0","id":"rpc#00002","result":1}');
    pair.caller.receive('{"jsonrpc":"2.0","id":7,"result":1}');
    expect(pair.caller.stats).toEqual({ lateResponses: 1, unknownResponses: 2 });
    expect(pair.protocolErrors).toEqual([]);
  });

  it('does not listen to its signal once it has settled', async () => {
    const pair = new PeerPair();
    const controller = new AbortController();
    const call = pair.caller.call('a.b', {}, { signal: controller.signal });
    await pair.settle();
    await call;
    controller.abort();
    expect(pair.sent).toHaveLength(2);
  });
});

describe('progress', () => {
  it('reaches the caller in order and only until the call has settled', async () => {
    const pair = new PeerPair({
      callee: {
        onRequest: async (_method, _params, context) => {
          context.progress({ done: 1 });
          context.progress({ done: 2 });
          setImmediate(() => context.progress('too late'));
          return 'end';
        },
      },
    });
    const seen: unknown[] = [];
    const call = pair.caller.call('a.b', {}, { onProgress: (value) => seen.push(value) });
    await pair.settle();
    await turn();
    expect(await call).toBe('end');
    expect(seen).toEqual([{ done: 1 }, { done: 2 }]);
    expect(pair.sent.filter((entry) => entry.message['method'] === '$/progress')).toHaveLength(2);
  });

  it('is not sent to a caller that did not ask', async () => {
    const pair = new PeerPair({
      callee: {
        onRequest: async (_method, _params, context) => {
          context.progress(1);
          return context.wantsProgress;
        },
      },
    });
    const call = pair.caller.call('a.b', {});
    await pair.settle();
    expect(await call).toBe(false);
    expect(pair.sent).toHaveLength(2);
  });

  it('whose receiver throws ends that call with its error and leaves the line alone', async () => {
    const pair = new PeerPair({
      callee: {
        onRequest: (_method, _params, context) => {
          context.progress(1);
          return new Promise(() => {});
        },
      },
    });
    const call = rejection(
      pair.caller.call(
        'a.b',
        {},
        {
          onProgress: () => {
            throw new Error('no room');
          },
        },
      ),
    );
    await pair.settle();
    expect(await call).toMatchObject({ code: 'INTERNAL', message: 'no room' });
    expect(pair.protocolErrors).toEqual([]);
    expect(pair.sent.at(-1)?.message['method']).toBe('$/cancelRequest');
  });

  it('of an unknown token is ignored', () => {
    const pair = new PeerPair();
    pair.caller.receive('{"jsonrpc":"2.0","method":"$/progress","params":{"token":"rpc#00009","value":1}}');
    pair.caller.receive('{"jsonrpc":"2.0","method":"$/progress","params":{"token":9,"value":1}}');
    pair.caller.receive('{"jsonrpc":"2.0","method":"$/progress","params":{}}');
    expect(pair.protocolErrors).toEqual([]);
  });
});

describe('closing', () => {
  it('settles every pending call with INTERRUPTED and what dropped the line', async () => {
    const pair = new PeerPair({ callee: silent });
    const calls = ['a.b', 'c.d'].map((method) => rejection(pair.caller.call(method, {})));
    pair.drop();
    const errors = await Promise.all(calls);
    expect(errors.map((error) => error.code)).toEqual(['INTERRUPTED', 'INTERRUPTED']);
    expect(errors[1]?.message).toContain('c.d (rpc#00002) was interrupted');
    expect(errors[1]?.message).toContain('the line dropped');
    expect(pair.caller.pendingCount).toBe(0);
    expect(pair.clock.pendingTimers).toBe(0);
  });

  it('refuses later calls with a code that says they were not sent, and names the first error', async () => {
    const pair = new PeerPair();
    pair.caller.close(new FairleadError('PROTOCOL_ERROR', 'first'));
    pair.caller.close(new FairleadError('INTERRUPTED', 'second'));
    const error = await rejection(pair.caller.call('a.b', {}));
    expect(error.code).toBe('CONNECT_FAILED');
    expect(error.message).toContain('first');
    pair.caller.notify('a.b', {});
    pair.caller.receive('garbage');
    expect(pair.sent).toEqual([]);
    expect(pair.protocolErrors).toEqual([]);
    expect(pair.caller.closed).toBe(true);
  });
});

describe('limits of the caller', () => {
  it('refuse a call beyond maxPendingCalls', async () => {
    const pair = new PeerPair({ callee: silent, limits: { maxPendingCalls: 1 } });
    const first = rejection(pair.caller.call('a.b', {}));
    const second = await rejection(pair.caller.call('a.b', {}));
    expect(second).toMatchObject({ code: 'LIMIT_EXCEEDED', details: { limit: 'maxPendingCalls', max: 1 } });
    pair.drop();
    await first;
  });

  it('refuse params that do not fit a message, by bytes and not by characters', async () => {
    const pair = new PeerPair({ limits: { maxMessageBytes: 1000 } });
    const error = await rejection(pair.caller.call('a.b', { text: '€'.repeat(350) }));
    expect(error).toMatchObject({ code: 'LIMIT_EXCEEDED', details: { limit: 'maxMessageBytes', max: 1000 } });
    expect(pair.caller.pendingCount).toBe(0);
    expect(() => pair.caller.notify('a.b', { text: 'x'.repeat(1000) })).toThrow(/longer than 1000 bytes/);
  });

  it('do not hide that a message could not be sent', async () => {
    const peer = new JsonRpcPeer({
      send: () => {
        throw new Error('socket is closing');
      },
      onRequest: async () => null,
      onProtocolError: unexpected,
    });
    expect(await rejection(peer.call('a.b', {}))).toMatchObject({
      code: 'CONNECT_FAILED',
      message: expect.stringContaining('socket is closing'),
    });
    expect(peer.pendingCount).toBe(0);
  });
});
