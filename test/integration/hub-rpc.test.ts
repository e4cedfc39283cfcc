/** Calls from operators to the hub and through it to hosts, over the WebSocket and by POST; scripted agents answer. */
import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import type { JsonObject } from '../../shared/errors.ts';
import { addTestHost, connectTestOperator } from '../support/test-agent.ts';
import { postRpc, startTestHub, type TestHub } from '../support/test-hub.ts';

const error = (code: string) => expect.objectContaining({ code });

async function tokenOf(hub: TestHub, role: 'viewer' | 'operator'): Promise<{ token: string; id: string }> {
  const { body } = await hub.post('token.create', { kind: 'operator', role });
  const record: unknown = body.result?.['record'];
  const id = typeof record === 'object' && record !== null && 'id' in record ? String(record.id) : '';
  return { token: String(body.result?.['token']), id };
}

describe('a call through the hub', () => {
  it("reaches the host with the caller's params and without host, and its result comes back as it is", async () => {
    await using hub = await startTestHub();
    const seen: JsonObject[] = [];
    const get = (params: JsonObject) => {
      seen.push(params);
      return { name: 'web', unknownToTheHub: [1, 2] };
    };
    await using _agent = await addTestHost(hub, 'h1', { methods: { 'vm.get': get } });
    await using operator = await connectTestOperator(hub.url, hub.adminToken);
    const result = await operator.line.peer.call('vm.get', { host: 'h1', vm: 'web' });
    expect(result).toEqual({ name: 'web', unknownToTheHub: [1, 2] });
    expect(seen).toEqual([{ vm: 'web' }]);
  });

  it('carries remaining time, trace and progress', async () => {
    await using hub = await startTestHub();
    const traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';
    const seen: unknown[] = [];
    await using _agent = await addTestHost(hub, 'h1', {
      methods: {
        'vm.events': (_params, context) => {
          // The hub asks on its own account as well.
          if (!context.wantsProgress) return { epoch: 'e', events: [], missed: 0, lastSeq: 0 };
          seen.push(context.trace.traceparent, context.remainingMs());
          for (const seq of [1, 2, 3]) context.progress({ seq });
          return { events: [] };
        },
      },
    });
    await using operator = await connectTestOperator(hub.url, hub.adminToken);
    const progress: unknown[] = [];
    const options = { timeoutMs: 5000, trace: { traceparent }, onProgress: (value: unknown) => progress.push(value) };
    await operator.line.peer.call('vm.events', {}, options);
    expect(progress).toEqual([{ seq: 1 }, { seq: 2 }, { seq: 3 }]);
    expect(seen[0]).toBe(traceparent);
    expect(seen[1]).toBeGreaterThan(1000);
    expect(seen[1]).toBeLessThanOrEqual(5000);
  });

  it('is cancelled on the host when its caller cancels, and ends there when the deadline has passed', async () => {
    await using hub = await startTestHub();
    const aborted: unknown[] = [];
    const { promise: started, resolve: tellStarted } = Promise.withResolvers<void>();
    await using _agent = await addTestHost(hub, 'h1', {
      methods: {
        'vm.start': async (_params, { signal }) => {
          tellStarted();
          await once(signal, 'abort');
          aborted.push(signal.reason);
          throw signal.reason;
        },
      },
    });
    await using operator = await connectTestOperator(hub.url, hub.adminToken);
    const controller = new AbortController();
    const cancelled = operator.line.peer.call('vm.start', { vm: 'web' }, { signal: controller.signal });
    await started;
    controller.abort();
    await expect(cancelled).rejects.toEqual(error('CANCELLED'));
    await expect(operator.line.peer.call('vm.start', { vm: 'web' }, { timeoutMs: 1000 })).rejects.toEqual(error('TIMEOUT'));
    await expect.poll(() => aborted.length).toBe(2);
    expect(aborted).toContainEqual(error('CANCELLED'));
  });

  it('settles with INTERRUPTED when the host goes away', async () => {
    await using hub = await startTestHub();
    const { promise: started, resolve } = Promise.withResolvers<void>();
    const methods = {
      'vm.start': async () => {
        resolve();
        return await new Promise<never>(() => {});
      },
    };
    await using agent = await addTestHost(hub, 'h1', { methods });
    await using operator = await connectTestOperator(hub.url, hub.adminToken);
    const call = operator.line.peer.call('vm.start', { vm: 'web' });
    await started;
    agent.socket.terminate();
    await expect(call).rejects.toEqual(error('INTERRUPTED'));
    await expect(operator.line.peer.call('vm.start', { vm: 'web', host: 'h1' })).rejects.toEqual(error('HOST_UNREACHABLE'));
  });

  it("gives the host's error to the caller, details and all", async () => {
    await using hub = await startTestHub();
    await using _agent = await addTestHost(hub, 'h1');
    await using operator = await connectTestOperator(hub.url, hub.adminToken);
    await expect(operator.line.peer.call('vm.get', { vm: 'web' })).rejects.toThrow('no vm.get in this script');
  });

  it('is refused before it leaves the hub when its params are wrong', async () => {
    await using hub = await startTestHub();
    await using agent = await addTestHost(hub, 'h1');
    await using operator = await connectTestOperator(hub.url, hub.adminToken);
    const call = operator.line.peer.call('vm.get', { vm: 'web', color: 'red' });
    await expect(call).rejects.toMatchObject({ code: 'INVALID_PARAMS', message: expect.stringContaining('params.color') });
    await expect(operator.line.peer.call('vm.fly', {})).rejects.toEqual(error('METHOD_NOT_FOUND'));
    await expect(operator.line.peer.call('stream.open', { vm: 'web', port: 1 })).rejects.toEqual(error('INVALID_REQUEST'));
    expect(agent.calls.filter((method) => method === 'vm.get' || method === 'vm.fly')).toEqual([]);
  });
});

describe('the host of a call', () => {
  const events = (vm: string, type: string) => ({
    epoch: 'e',
    seq: 1,
    time: '2030-01-01T00:00:00.000Z',
    vm,
    type,
    state: 'created',
    data: {},
  });
  const named = (name: string) => ({ methods: { 'vm.get': () => name, 'host.info': () => name } });

  it('is the one that has the VM, by its list and by its events', async () => {
    await using hub = await startTestHub();
    const listed = { ...named('h1').methods, 'vm.list': () => ({ vms: [{ name: 'web' }, { name: 'both' }] }) };
    await using _one = await addTestHost(hub, 'h1', { methods: listed });
    await using two = await addTestHost(hub, 'h2', named('h2'));
    await using operator = await connectTestOperator(hub.url, hub.adminToken);
    const get = (vm: string) => operator.line.peer.call('vm.get', { vm });
    await expect.poll(() => get('web')).toBe('h1');
    two.line.peer.notify('vm.event', events('db', 'vm.created'));
    two.line.peer.notify('vm.event', events('both', 'vm.created'));
    await expect.poll(() => get('db').catch(String)).toBe('h2');
    await expect(get('both')).rejects.toMatchObject({ code: 'CONFLICT', details: { hosts: ['h1', 'h2'] } });
    two.line.peer.notify('vm.event', events('both', 'vm.deleted'));
    await expect.poll(() => get('both').catch(String)).toBe('h1');
    await expect(get('nowhere')).rejects.toEqual(error('NOT_FOUND'));
  });

  it('reads a list of several pages', async () => {
    await using hub = await startTestHub();
    const list = ({ after }: JsonObject) =>
      after === undefined ? { vms: [{ name: 'a' }], next: 'a' } : { vms: [{ name: 'b' }] };
    await using one = await addTestHost(hub, 'h1', { methods: { ...named('h1').methods, 'vm.list': list } });
    await using _two = await addTestHost(hub, 'h2', named('h2'));
    await using operator = await connectTestOperator(hub.url, hub.adminToken);
    await expect.poll(() => operator.line.peer.call('vm.get', { vm: 'b' }).catch(String)).toBe('h1');
    expect(one.calls.filter((method) => method === 'vm.list')).toHaveLength(2);
  });

  it('is the only one connected, and must be named when there are more', async () => {
    await using hub = await startTestHub();
    await using operator = await connectTestOperator(hub.url, hub.adminToken);
    await expect(operator.line.peer.call('host.info', {})).rejects.toEqual(error('HOST_UNREACHABLE'));
    await using _one = await addTestHost(hub, 'h1', named('h1'));
    expect(await operator.line.peer.call('host.info', {})).toBe('h1');
    await using _two = await addTestHost(hub, 'h2', named('h2'));
    await expect(operator.line.peer.call('host.info', {})).rejects.toMatchObject({
      code: 'INVALID_PARAMS',
      message: expect.stringContaining('h1, h2'),
    });
    expect(await operator.line.peer.call('host.info', { host: 'h2' })).toBe('h2');
  });

  it('is known or unknown, near or away, and the error says which', async () => {
    await using hub = await startTestHub();
    const listed = { 'vm.list': () => ({ vms: [{ name: 'web' }] }) };
    await using agent = await addTestHost(hub, 'h1', { methods: listed });
    await using operator = await connectTestOperator(hub.url, hub.adminToken);
    await expect(operator.line.peer.call('host.info', { host: 'h9' })).rejects.toEqual(error('NOT_FOUND'));
    await hub.logged('host h1 connected');
    agent.line.close();
    await hub.logged('host h1 disconnected');
    const call = operator.line.peer.call('vm.get', { vm: 'web' });
    await expect(call).rejects.toMatchObject({ code: 'HOST_UNREACHABLE', message: expect.stringContaining('h1') });
  });
});

describe("the hub's own methods", () => {
  it('tell of hosts, connected or not', async () => {
    await using hub = await startTestHub();
    const agent = await addTestHost(hub, 'h1');
    const live = await hub.post('host.get', { host: 'h1' });
    expect(live.body.result).toMatchObject({ host: 'h1', connected: true, epoch: 1, remoteAddress: '127.0.0.1' });
    agent.line.close();
    await hub.logged('host h1 disconnected');
    const away = await hub.post('host.list');
    expect(away.body.result).toEqual({ hosts: [expect.objectContaining({ host: 'h1', connected: false })] });
    expect((await hub.post('hub.info')).body.result).toMatchObject({ hostsEnrolled: 1, hostsConnected: 0 });
    expect((await hub.post('host.get', { host: 'h2' })).status).toBe(404);
  });

  it('forget a host, close its line and take its key no more', async () => {
    await using hub = await startTestHub();
    await using agent = await addTestHost(hub, 'h1');
    expect((await hub.post('host.remove', { host: 'h1' })).status).toBe(200);
    expect(await agent.line.closed).toMatchObject({ code: 1008, reason: 'the host was removed' });
    expect((await hub.post('host.remove', { host: 'h1' })).status).toBe(404);
  });

  it('serve the OpenRPC document', async () => {
    await using hub = await startTestHub();
    expect((await hub.post('rpc.discover')).body.result).toMatchObject({ openrpc: expect.any(String) });
  });

  it('close the sessions of a token that is revoked', async () => {
    await using hub = await startTestHub();
    const { token, id } = await tokenOf(hub, 'operator');
    await using operator = await connectTestOperator(hub.url, token);
    await hub.post('token.revoke', { id });
    expect(await operator.line.closed).toMatchObject({ code: 1008, reason: 'the token was revoked' });
    await expect(connectTestOperator(hub.url, token)).rejects.toThrow('was revoked');
  });
});

describe('a role', () => {
  it('lets a viewer look and not touch', async () => {
    await using hub = await startTestHub();
    await using _agent = await addTestHost(hub, 'h1', { methods: { 'vm.get': () => 'seen' } });
    const { token } = await tokenOf(hub, 'viewer');
    expect((await hub.post('vm.get', { vm: 'web' }, token)).body.result).toBe('seen');
    expect(await hub.post('vm.start', { vm: 'web' }, token)).toMatchObject({ status: 403 });
    expect(await hub.post('token.list', {}, token)).toMatchObject({ status: 403 });
  });
});

describe('a POST', () => {
  it.each([
    ['{"jsonrpc":"2.0","id":1', 400, -32700],
    ['[{"jsonrpc":"2.0","id":1,"method":"hub.info"}]', 400, -32600],
    ['{"id":1,"method":"hub.info"}', 400, -32600],
    ['{"jsonrpc":"2.0","method":"hub.info"}', 400, -32600],
    ['{"jsonrpc":"2.0","id":1,"method":"vm.fly"}', 404, -32601],
    ['{"jsonrpc":"2.0","id":1,"method":"hub.info","params":{"x":1}}', 400, -32602],
    ['{"jsonrpc":"2.0","id":1,"method":"vm.get","params":{"vm":"w"}}', 503, 1003],
    ['{"jsonrpc":"2.0","id":1,"method":"host.get","params":{"host":"w"}}', 404, 1200],
    ['{"jsonrpc":"2.0","id":1,"method":"stream.open","params":{"vm":"w","port":1}}', 400, -32600],
    ['{"jsonrpc":"2.0","id":1,"method":"hub.info","params":{"_meta":{"timeoutMs":-1}}}', 504, 1001],
  ])('%s gets status %i and code %i', async (text, status, code) => {
    await using hub = await startTestHub();
    const answer = await postRpc(hub.url, hub.adminToken, text);
    expect(answer).toMatchObject({ status, body: { error: { code } } });
  });

  it('is refused without a token, with a wrong one, and when it is too long', async () => {
    await using hub = await startTestHub();
    expect(await hub.post('hub.info', {}, 'flo_nothing')).toMatchObject({ status: 401, body: { error: { code: 1100 } } });
    const plain = await fetch(`${hub.url}/rpc`, { method: 'POST', body: '{}' });
    expect(plain.status).toBe(401);
    expect(plain.headers.get('www-authenticate')).toContain('Bearer');
    const long = await fetch(`${hub.url}/rpc`, { method: 'POST', body: ' '.repeat(300_000) });
    expect(long.status).toBe(413);
  });

  it('cancels its call when the caller hangs up', async () => {
    await using hub = await startTestHub();
    const { promise: started, resolve } = Promise.withResolvers<AbortSignal>();
    const methods = {
      'vm.get': async (_params: JsonObject, { signal }: { signal: AbortSignal }) => {
        resolve(signal);
        return await new Promise<never>(() => {});
      },
    };
    await using _agent = await addTestHost(hub, 'h1', { methods });
    const controller = new AbortController();
    const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'vm.get', params: { vm: 'web' } });
    const headers = { authorization: `Bearer ${hub.adminToken}` };
    const call = fetch(`${hub.url}/rpc`, { method: 'POST', headers, body, signal: controller.signal });
    const signal = await started;
    controller.abort();
    await expect(call).rejects.toThrow('aborted');
    if (!signal.aborted) await once(signal, 'abort');
  });

  it('from a web page is taken only from an allowed origin', async () => {
    await using hub = await startTestHub({ allowedOrigins: ['https://console.example'] });
    const from = (origin: string, method = 'POST') =>
      fetch(`${hub.url}/rpc`, {
        method,
        headers: { origin, authorization: `Bearer ${hub.adminToken}` },
        ...(method === 'POST' ? { body: '{"jsonrpc":"2.0","id":1,"method":"hub.info"}' } : {}),
      });
    const allowed = await from('https://console.example');
    expect([allowed.status, allowed.headers.get('access-control-allow-origin')]).toEqual([200, 'https://console.example']);
    expect((await from('https://evil.example')).status).toBe(403);
    expect((await from('https://console.example', 'OPTIONS')).status).toBe(204);
  });
});

describe('the audit log', () => {
  it('has a line for each call that may change something, and no secret', async () => {
    await using hub = await startTestHub();
    await hub.post('token.create', { kind: 'enrol', description: 'x'.repeat(150) });
    await hub.post('hub.info');
    const lines = hub.log.filter((line) => line.fields['audit'] === true && line.fields['method'] !== undefined);
    expect(lines).toEqual([
      expect.objectContaining({
        message: 'token.create ended with OK',
        fields: expect.objectContaining({ role: 'admin', code: 'OK', params: expect.stringContaining('…') }),
      }),
    ]);
    expect(JSON.stringify(hub.log)).not.toContain(hub.adminToken);
  });
});
