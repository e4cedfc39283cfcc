import { describe, expect, it } from 'vitest';
import { FairleadError, type JsonObject } from '../../shared/errors.ts';
import { forwardOptions } from '../../shared/jsonrpc/forward.ts';
import type { RequestContext } from '../../shared/jsonrpc/types.ts';
import { PeerPair, rejection, turn } from '../support/peer-pair.ts';

/** A callee whose handlers wait until their signal fires, and record their contexts. */
function waiting() {
  const contexts: RequestContext[] = [];
  const onRequest = (_method: string, _params: unknown, context: RequestContext): Promise<never> => {
    contexts.push(context);
    return new Promise((_resolve, reject) => {
      context.signal.addEventListener('abort', () => reject(context.signal.reason));
    });
  };
  return { contexts, onRequest };
}

function request(id: unknown, params: unknown, method = 'a.b'): string {
  return JSON.stringify({ jsonrpc: '2.0', id, method, params });
}

describe('a request', () => {
  it('reaches the handler without _meta', async () => {
    const seen: unknown[] = [];
    const pair = new PeerPair({ callee: { onRequest: async (method, params) => seen.push(method, params) } });
    const call = pair.caller.call('vm.get', { vm: 'web' }, { meta: { note: 'x' } });
    await pair.settle();
    await call;
    expect(seen).toEqual(['vm.get', { vm: 'web' }]);
  });

  it('has its deadline as remaining time of the callee clock', async () => {
    const { contexts, onRequest } = waiting();
    const pair = new PeerPair({ callee: { onRequest } });
    const call = rejection(pair.caller.call('a.b', {}, { timeoutMs: 10_000 }));
    pair.clock.advance(2_000);
    pair.deliverToCallee();
    expect(contexts[0]?.remainingMs()).toBe(9_900);
    pair.clock.advance(400);
    expect(contexts[0]?.remainingMs()).toBe(9_500);
    pair.drop();
    await call;
  });

  it('has no deadline only when the caller asks for none', async () => {
    const { contexts, onRequest } = waiting();
    const pair = new PeerPair({ callee: { onRequest } });
    pair.callee.receive(request(1, { _meta: { timeoutMs: 0 } }));
    pair.callee.receive(request(2, {}));
    expect(contexts.map((context) => context.remainingMs())).toEqual([undefined, 60_000]);
    pair.drop();
    await turn();
  });

  it('that runs past its deadline is aborted and answered with TIMEOUT', async () => {
    const { onRequest } = waiting();
    const pair = new PeerPair({ callee: { onRequest } });
    const call = rejection(pair.caller.call('a.b', {}, { timeoutMs: 1_000 }));
    pair.deliverToCallee();
    pair.clock.advance(950);
    await pair.settle();
    expect(await call).toMatchObject({ code: 'TIMEOUT', message: 'a.b did not end within its deadline', retryable: true });
    expect(pair.callee.inFlightCount).toBe(0);
  });

  it('that expired on its way is refused and not run', async () => {
    let ran = false;
    const pair = new PeerPair({
      callee: {
        onRequest: async () => {
          ran = true;
        },
      },
    });
    pair.callee.receive(request(1, { _meta: { timeoutMs: -5 } }));
    await turn();
    expect(ran).toBe(false);
    expect(pair.sent[0]?.message).toMatchObject({ id: 1, error: { data: { code: 'TIMEOUT' } } });
  });

  it('that is cancelled still gets exactly one response', async () => {
    const { contexts, onRequest } = waiting();
    const pair = new PeerPair({ callee: { onRequest } });
    pair.callee.receive(request('x', {}));
    pair.callee.receive('{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":"x"}}');
    pair.callee.receive('{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":"x"}}');
    await turn();
    pair.callee.receive('{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":"x"}}');
    await turn();
    expect(contexts[0]?.signal.reason).toMatchObject({ code: 'CANCELLED' });
    expect(pair.sent.map((entry) => entry.message)).toEqual([
      { jsonrpc: '2.0', id: 'x', error: expect.objectContaining({ code: 1000, data: { code: 'CANCELLED', retryable: false } }) },
    ]);
  });

  it('that is cancelled may still succeed, if its handler had passed the point of return', async () => {
    let finish = (_value: string): void => {};
    const pair = new PeerPair({ callee: { onRequest: () => new Promise((resolve) => (finish = resolve)) } });
    pair.callee.receive(request(1, {}));
    pair.callee.receive('{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":1}}');
    finish('done');
    await turn();
    expect(pair.sent[0]?.message).toEqual({ jsonrpc: '2.0', id: 1, result: 'done' });
  });

  it("that ends with Node's AbortError is answered with why it was aborted", async () => {
    const pair = new PeerPair({
      callee: {
        onRequest: (_method, _params, { signal }) =>
          new Promise((_resolve, reject) => {
            signal.addEventListener('abort', () => reject(new DOMException('This operation was aborted', 'AbortError')));
          }),
      },
    });
    pair.callee.receive(request(1, { _meta: { timeoutMs: 10 } }));
    pair.clock.advance(10);
    await turn();
    expect(pair.sent[0]?.message).toMatchObject({ error: { data: { code: 'TIMEOUT' } } });
    expect(pair.faults).toEqual([]);
  });

  it('is aborted and not answered when the peer closes', async () => {
    const { contexts, onRequest } = waiting();
    const pair = new PeerPair({ callee: { onRequest } });
    pair.callee.receive(request(1, {}));
    pair.callee.close(new FairleadError('INTERRUPTED', 'gone'));
    await turn();
    expect(contexts[0]?.signal.reason).toMatchObject({ code: 'INTERRUPTED' });
    expect(pair.sent).toEqual([]);
    expect(pair.callee.inFlightCount).toBe(0);
    expect(pair.clock.pendingTimers).toBe(0);
  });
});

describe('a handler that fails', () => {
  it('with an unknown error gives INTERNAL without its stack, and the fault is reported here', async () => {
    const fault = new TypeError('x is not a function');
    const pair = new PeerPair({ callee: { onRequest: () => Promise.reject(fault) } });
    const call = rejection(pair.caller.call('vm.start', {}));
    await pair.settle();
    expect(await call).toMatchObject({ code: 'INTERNAL', message: 'vm.start failed inside Fairlead: x is not a function' });
    expect(JSON.stringify(pair.sent[1]?.message)).not.toContain('jsonrpc-requests');
    expect(pair.faults).toMatchObject([{ method: 'vm.start', error: { code: 'INTERNAL', cause: fault } }]);
  });

  it('by throwing before it returns a promise, or with something that is no error, is answered as well', async () => {
    const thrown: unknown[] = [new Error('at once'), 'text', undefined, { odd: true }];
    const pair = new PeerPair({
      callee: {
        onRequest: () => {
          throw thrown.shift();
        },
      },
    });
    for (const id of [1, 2, 3, 4]) pair.callee.receive(request(id, {}));
    await turn();
    expect(pair.sent.map((entry) => entry.message['id'])).toEqual([1, 2, 3, 4]);
    expect(pair.faults).toHaveLength(4);
  });

  it('by returning what JSON cannot say is answered with INTERNAL', async () => {
    const circular: Record<string, unknown> = {};
    circular['self'] = circular;
    const results: unknown[] = [circular, 10n];
    const pair = new PeerPair({ callee: { onRequest: async () => results.shift() } });
    pair.callee.receive(request(1, {}));
    pair.callee.receive(request(2, {}));
    await turn();
    expect(pair.sent.map((entry) => entry.message)).toMatchObject([
      { id: 1, error: { data: { code: 'INTERNAL' } } },
      { id: 2, error: { data: { code: 'INTERNAL' } } },
    ]);
  });
});

describe('an answer beyond the size of a message', () => {
  it('becomes LIMIT_EXCEEDED of that call; the line goes on', async () => {
    const results = ['x'.repeat(2000), 'ok'];
    const pair = new PeerPair({ callee: { onRequest: async () => results.shift() }, limits: { maxMessageBytes: 1000 } });
    const long = rejection(pair.caller.call('vm.list', {}));
    const short = pair.caller.call('vm.list', {});
    await pair.settle();
    expect(await long).toMatchObject({ code: 'LIMIT_EXCEEDED', details: { limit: 'maxMessageBytes', max: 1000 } });
    expect(await short).toBe('ok');
    expect(pair.protocolErrors).toEqual([]);
  });

  it('that is an error loses its details and keeps its code', async () => {
    const error = new FairleadError('PROCESS_FAILED', 'qemu ended', { details: { stderrTail: 'x'.repeat(2000) } });
    const pair = new PeerPair({ callee: { onRequest: () => Promise.reject(error) }, limits: { maxMessageBytes: 1000 } });
    const call = rejection(pair.caller.call('vm.start', {}));
    await pair.settle();
    expect(await call).toMatchObject({ code: 'PROCESS_FAILED', message: 'qemu ended', details: undefined });
  });

  it('or with details that JSON cannot say, is sent without them', async () => {
    const details: Record<string, unknown> = {};
    details['self'] = details;
    // SAFETY: what the type forbids and a careless handler does all the same.
    const error = new FairleadError('QMP_FAILED', 'no', { details: details as JsonObject });
    const pair = new PeerPair({ callee: { onRequest: () => Promise.reject(error) } });
    const call = rejection(pair.caller.call('vm.qmp', {}));
    await pair.settle();
    expect(await call).toMatchObject({ code: 'QMP_FAILED', message: 'no', details: undefined });
    expect(pair.callee.inFlightCount).toBe(0);
  });

  it('that is progress aborts the request', async () => {
    const pair = new PeerPair({
      limits: { maxMessageBytes: 1000 },
      callee: {
        onRequest: async (_method, _params, context) => {
          context.progress('x'.repeat(2000));
          context.signal.throwIfAborted();
        },
      },
    });
    const call = rejection(pair.caller.call('vm.events', {}, { onProgress: () => {} }));
    await pair.settle();
    expect((await call).code).toBe('LIMIT_EXCEEDED');
  });
});

describe('requests at once', () => {
  it('beyond the limit are refused, and taken again when one has ended', async () => {
    const { contexts, onRequest } = waiting();
    const pair = new PeerPair({ callee: { onRequest }, limits: { maxConcurrentRequests: 2 } });
    for (const id of [1, 2, 3]) pair.callee.receive(request(id, {}));
    await turn();
    expect(contexts).toHaveLength(2);
    expect(pair.callee.inFlightCount).toBe(2);
    expect(pair.sent.map((entry) => entry.message)).toMatchObject([
      { id: 3, error: { data: { code: 'LIMIT_EXCEEDED', retryable: true } } },
    ]);
    pair.callee.receive('{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":1}}');
    await turn();
    pair.callee.receive(request(4, {}));
    expect(contexts).toHaveLength(3);
    pair.drop();
    await turn();
  });

  it('with an id that is in use break the protocol', async () => {
    const { contexts, onRequest } = waiting();
    const pair = new PeerPair({ callee: { onRequest } });
    pair.callee.receive(request('same', {}));
    pair.callee.receive(request('same', {}));
    expect(contexts).toHaveLength(1);
    expect(pair.protocolErrors).toMatchObject([{ code: 'PROTOCOL_ERROR' }]);
    pair.drop();
    await turn();
  });
});

describe('notifications', () => {
  it('reach their handler; unknown ones of the protocol itself are ignored', () => {
    const seen: unknown[] = [];
    const pair = new PeerPair({ callee: { onNotification: (method, params) => seen.push(method, params) } });
    pair.caller.notify('host.draining', { why: 'upgrade' });
    pair.caller.notify('$/setTrace', {});
    pair.deliverToCallee();
    expect(seen).toEqual(['host.draining', { why: 'upgrade' }]);
    expect(pair.protocolErrors).toEqual([]);
  });

  it('whose handler throws are told to the owner of the line', () => {
    const pair = new PeerPair({
      callee: {
        onNotification: () => {
          throw new Error('bad news');
        },
      },
    });
    pair.caller.notify('a.b', {});
    pair.deliverToCallee();
    expect(pair.protocolErrors).toMatchObject([{ code: 'INTERNAL', message: 'bad news' }]);
  });
});

describe('a request that is passed on', () => {
  const trace = { traceparent: `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`, tracestate: 'v=1', baggage: 'user=me' };

  function relay() {
    const { contexts, onRequest } = waiting();
    const agent = new PeerPair({ callee: { onRequest } });
    const hub = new PeerPair({
      callee: { onRequest: (method, params, context) => agent.caller.call(method, params, forwardOptions(context)) },
    });
    const settle = async (): Promise<void> => {
      for (let round = 0; round < 3; round += 1) {
        await hub.settle();
        await agent.settle();
      }
    };
    return { agent, hub, contexts, settle };
  }

  it('carries progress, remaining time and trace through, and no other _meta', async () => {
    const { agent, hub, contexts, settle } = relay();
    const seen: unknown[] = [];
    const call = rejection(
      hub.caller.call(
        'vm.events',
        { follow: true },
        { timeoutMs: 10_000, trace, meta: { forged: 1 }, onProgress: (value) => seen.push(value) },
      ),
    );
    await settle();
    contexts[0]?.progress({ seq: 1 });
    await settle();
    expect(seen).toEqual([{ seq: 1 }]);
    expect(contexts[0]?.trace).toEqual(trace);
    expect(agent.sent[0]?.message['params']).toEqual({
      follow: true,
      _meta: { ...trace, timeoutMs: 9_800, progressToken: 'rpc#00001' },
    });
    hub.drop();
    await settle();
    await call;
  });

  it('carries cancellation through to the last handler', async () => {
    const { hub, contexts, settle } = relay();
    const controller = new AbortController();
    const call = rejection(hub.caller.call('vm.start', {}, { timeoutMs: 0, signal: controller.signal }));
    await settle();
    expect(contexts[0]?.remainingMs()).toBeUndefined();
    controller.abort();
    await settle();
    expect((await call).code).toBe('CANCELLED');
    expect(contexts[0]?.signal.reason).toMatchObject({ code: 'CANCELLED' });
  });

  it('ends with INTERRUPTED when the line behind the hub drops', async () => {
    const { agent, hub, settle } = relay();
    const call = rejection(hub.caller.call('vm.start', {}));
    await settle();
    agent.drop();
    await settle();
    expect(await call).toMatchObject({ code: 'INTERRUPTED', retryable: true });
  });
});
