/** Sessions of the hub over their life: fencing, contract versions, garbage, drain, restart. */
import { once } from 'node:events';
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { WebSocket } from 'ws';
import { loadNative } from '../../native/index.ts';
import { FairleadError } from '../../shared/errors.ts';
import { generateHostKey } from '../../shared/node/host-key.ts';
import { formatAuthorization } from '../../shared/protocol/handshake.ts';
import {
  addTestHost,
  askChallenge,
  connectTestAgent,
  connectTestOperator,
  enrolHost,
  makeProof,
  upgrade,
} from '../support/test-agent.ts';
import { startTestHub, type TestHub } from '../support/test-hub.ts';

async function temporaryDirectory() {
  const path = await mkdtemp(join(tmpdir(), 'hub-sessions-'));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true }) };
}

/** A WebSocket that passed the door as an agent and has said nothing yet. */
async function bareAgentSocket(hub: TestHub, host: string): Promise<WebSocket> {
  const key = generateHostKey();
  await enrolHost(hub.url, { host, key, token: await hub.hub.bootstrap.enrolToken() });
  const authorization = formatAuthorization(makeProof({ host, key, challenge: await askChallenge(hub.url) }));
  const socket = await upgrade({ url: hub.url, authorization }, (open) => open);
  if ('code' in socket) throw new Error(socket.message);
  return socket;
}

describe('of two sessions of one host', () => {
  it('the newer serves and the older is closed', async () => {
    await using hub = await startTestHub();
    await using first = await addTestHost(hub, 'h1', { methods: { 'host.info': () => 'first' } });
    await using operator = await connectTestOperator(hub.url, hub.adminToken);
    expect(await operator.line.peer.call('host.info', {})).toBe('first');
    await using _second = await connectTestAgent({
      url: hub.url,
      host: 'h1',
      key: first.key,
      methods: { 'host.info': () => 'second' },
    });
    expect(await first.line.closed).toMatchObject({ code: 1008, reason: expect.stringContaining('superseded by session 2') });
    expect(await operator.line.peer.call('host.info', {})).toBe('second');
    expect((await hub.post('host.get', { host: 'h1' })).body.result).toMatchObject({ epoch: 2, connected: true });
  });

  it('a call that waited on the older one is interrupted', async () => {
    await using hub = await startTestHub();
    const { promise: started, resolve } = Promise.withResolvers<void>();
    const wait = () => {
      resolve();
      return new Promise<never>(() => {});
    };
    await using first = await addTestHost(hub, 'h1', { methods: { 'host.info': wait } });
    await using operator = await connectTestOperator(hub.url, hub.adminToken);
    const call = operator.line.peer.call('host.info', {});
    await started;
    await using _second = await connectTestAgent({ url: hub.url, host: 'h1', key: first.key });
    await expect(call).rejects.toMatchObject({ code: 'INTERRUPTED' });
  });

  it('epochs rise by one however fast a host comes back', async () => {
    await using hub = await startTestHub();
    await using first = await addTestHost(hub, 'h1');
    const sessions = Array.from({ length: 5 }, async () => {
      const agent = await connectTestAgent({ url: hub.url, host: 'h1', key: first.key });
      return { agent, epoch: (await agent.line.ready).session.epoch };
    });
    const opened = await Promise.all(sessions);
    expect(opened.map(({ epoch }) => epoch).sort((a, b) => a - b)).toEqual([2, 3, 4, 5, 6]);
    const newest = opened.find(({ epoch }) => epoch === 6);
    await Promise.all(opened.filter((session) => session !== newest).map(({ agent }) => agent.line.closed));
    await expect
      .poll(async () => (await hub.post('host.info', { host: 'h1' })).body.error?.message)
      .toContain('no host.info in this script');
    expect(newest?.agent.calls).toContain('host.info');
    await newest?.agent[Symbol.asyncDispose]();
  });
});

describe("an agent's contract version", () => {
  it('is too old: it is told to upgrade and never serves', async () => {
    await using hub = await startTestHub();
    const key = generateHostKey();
    await enrolHost(hub.url, { host: 'h1', key, token: await hub.hub.bootstrap.enrolToken() });
    await using agent = await connectTestAgent({ url: hub.url, host: 'h1', key, contract: 0 });
    expect(await agent.line.closed).toMatchObject({ code: 1008, reason: expect.stringContaining('upgrade the agent') });
    expect((await hub.post('hub.info')).body.result).toMatchObject({ hostsConnected: 0 });
  });

  it('may be newer than that of the hub', async () => {
    await using hub = await startTestHub();
    await using agent = await addTestHost(hub, 'h1', { contract: 99 });
    agent.line.peer.notify('vm.event', {
      epoch: 'e',
      seq: 1,
      time: '2030-01-01T00:00:00.000Z',
      vm: 'web',
      type: 'vm.teleported',
      state: 'elsewhere',
      data: {},
      somethingNew: true,
    });
    await hub.logged('host h1 connected');
    await expect.poll(async () => (await hub.post('host.get', { host: 'h1' })).body.result?.['contractVersion']).toBe(99);
  });

  it('belongs to an agent: an operator cannot pass for one with a host key', async () => {
    await using hub = await startTestHub();
    const key = generateHostKey();
    await enrolHost(hub.url, { host: 'h1', key, token: await hub.hub.bootstrap.enrolToken() });
    await using agent = await connectTestAgent({ url: hub.url, host: 'h1', key, role: 'operator' });
    expect(await agent.line.closed).toMatchObject({ reason: expect.stringContaining('role operator') });
  });
});

describe('garbage', () => {
  const HELLO_CUT = Buffer.from('0000ffff00000000', 'hex');

  it.each([
    ['text before HELLO', (socket: WebSocket) => socket.send('hello')],
    ['a frame cut short', (socket: WebSocket) => socket.send(Buffer.from('0100', 'hex'))],
    ['a frame longer than its message', (socket: WebSocket) => socket.send(HELLO_CUT)],
    ['a message that is too long', (socket: WebSocket) => socket.send(Buffer.alloc(300_000))],
  ])('%s closes that line with a reason, and no other', async (_name, spoil) => {
    await using hub = await startTestHub();
    await using _other = await addTestHost(hub, 'h2', { methods: { 'host.info': () => 'unharmed' } });
    const socket = await bareAgentSocket(hub, 'h1');
    spoil(socket);
    const [code] = await once(socket, 'close');
    expect([1002, 1009]).toContain(code);
    await hub.logged('host h1 disconnected');
    expect((await hub.post('host.info', { host: 'h2' })).body.result).toBe('unharmed');
  });

  it.each([
    ['text that is no JSON', (socket: WebSocket) => socket.send('{"jsonrpc":')],
    ['an answer that is none', (socket: WebSocket) => socket.send('{"jsonrpc":"2.0","id":1}')],
    ['an event of no VM', (socket: WebSocket) => socket.send('{"jsonrpc":"2.0","method":"vm.event","params":{}}')],
    ['a frame of no known type', (socket: WebSocket) => socket.send(Buffer.from('7f00000000000000', 'hex'))],
  ])('%s after HELLO does as well', async (_name, spoil) => {
    await using hub = await startTestHub();
    await using agent = await addTestHost(hub, 'h1');
    await hub.logged('host h1 connected');
    spoil(agent.socket);
    const { code, reason } = await agent.line.closed;
    expect(code).toBe(1002);
    expect(reason).not.toBe('');
  });

  it('from an operator closes that line, and not that of the host', async () => {
    await using hub = await startTestHub();
    await using agent = await addTestHost(hub, 'h1', { methods: { 'host.info': () => 'unharmed' } });
    await using operator = await connectTestOperator(hub.url, hub.adminToken);
    operator.socket.send('no JSON');
    expect(await operator.line.closed).toMatchObject({ code: 1002 });
    expect((await hub.post('host.info')).body.result).toBe('unharmed');
    expect(agent.socket.readyState).toBe(agent.socket.OPEN);
  });

  it('is not a list of VMs that could not be had: the host serves without', async () => {
    await using hub = await startTestHub();
    const fail = () => {
      throw new FairleadError('LIMIT_EXCEEDED', 'not now');
    };
    await using _agent = await addTestHost(hub, 'h1', { methods: { 'vm.list': fail, 'host.info': () => 'here' } });
    await hub.logged('could not list the VMs of host h1');
    expect((await hub.post('host.info', { host: 'h1' })).body.result).toBe('here');
  });

  it('in the list of VMs closes the line that it came on', async () => {
    await using hub = await startTestHub();
    await using agent = await addTestHost(hub, 'h1', { methods: { 'vm.list': () => ({ vms: [{ name: '../etc' }] }) } });
    expect(await agent.line.closed).toMatchObject({ reason: expect.stringContaining('vm.list') });
  });
});

describe('a hub that stops', () => {
  it('asks everybody to leave and come back later, and says that it is not ready', async () => {
    const hub = await startTestHub({ drainMs: 5000 });
    const { promise: asked, resolve } = Promise.withResolvers<{ spreadMs: number; drainMs: number }>();
    const agent = await addTestHost(hub, 'h1', { onGoAway: resolve });
    const operator = await connectTestOperator(hub.url, hub.adminToken);
    expect((await fetch(`${hub.url}/readyz`)).status).toBe(200);
    const stopped = hub.hub.stop();
    expect(await asked).toMatchObject({ drainMs: 5000, spreadMs: expect.any(Number) });
    const ready = await fetch(`${hub.url}/readyz?verbose`, { headers: { connection: 'close' } });
    expect([ready.status, await ready.text()]).toEqual([
      503,
      expect.stringContaining('[-]accepting failed: the hub is shutting down'),
    ]);
    expect((await fetch(`${hub.url}/livez`, { headers: { connection: 'close' } })).status).toBe(200);
    await expect(connectTestOperator(hub.url, hub.adminToken)).rejects.toThrow('refused with 503');
    agent.line.close();
    operator.line.close();
    await stopped;
    await expect(fetch(`${hub.url}/livez`)).rejects.toThrow('fetch failed');
  });

  it('closes those that do not leave', async () => {
    const hub = await startTestHub({ drainMs: 50 });
    const agent = await addTestHost(hub, 'h1');
    await hub.hub.stop();
    expect(await agent.line.closed).toMatchObject({ code: 1001, error: undefined });
    await hub.hub.stop();
  });

  it('keeps hosts, tokens and its own name for the next one on the same data', async () => {
    await using directory = await temporaryDirectory();
    const first = await startTestHub({ dataDir: directory.path });
    const agent = await addTestHost(first, 'h1');
    const { hubId } = first.hub;
    const path = join(directory.path, 'admin.token');
    const adminToken = (await readFile(path, 'utf8')).trim();
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    agent.line.close();
    await first.hub.stop();

    await using second = await startTestHub({ dataDir: directory.path });
    expect(second.hub.hubId).toBe(hubId);
    await using back = await connectTestAgent({ url: second.url, host: 'h1', key: agent.key });
    expect((await back.line.ready).session.epoch).toBe(2);
    expect((await second.post('host.list', {}, adminToken)).status).toBe(200);
    expect(second.log.some((line) => line.message.includes('first administrator'))).toBe(false);
    expect(JSON.stringify([first.log, second.log])).not.toContain(adminToken);
  });
});

describe('the TCP connection of a session', () => {
  it('keeps little unsent in the kernel, where the add-on is there', async () => {
    await using hub = await startTestHub();
    await using _agent = await addTestHost(hub, 'h1');
    const isMissing = hub.log.some((line) => line.message.includes('TCP_NOTSENT_LOWAT is not set'));
    expect(isMissing).toBe(!loadNative().available);
  });
});

describe('the endpoints for machines', () => {
  it('answer probes and scrapes', async () => {
    await using hub = await startTestHub();
    await using _agent = await addTestHost(hub, 'h1', { methods: { 'host.info': () => 1 } });
    await hub.logged('host h1 connected');
    await hub.post('host.info');
    await hub.post('vm.fly');
    const get = async (path: string) => await (await fetch(hub.url + path)).text();
    expect(await get('/healthz')).toBe('ok\n');
    expect(await get('/readyz?verbose')).toBe('[+]store ok\n[+]accepting ok\nok\n');
    expect(JSON.parse(await get('/version'))).toMatchObject({ hubId: hub.hub.hubId, contractVersion: 1 });
    const metrics = await get('/metrics');
    expect(metrics).toContain('fairlead_hub_hosts_connected 1');
    expect(metrics).toContain('fairlead_hub_rpc_requests_total{method="host.info",code="OK"} 1');
    expect(metrics).toContain('fairlead_hub_rpc_requests_total{method="unknown",code="METHOD_NOT_FOUND"} 1');
    expect(metrics).toMatch(/process_resident_memory_bytes \d/);
    expect((await fetch(`${hub.url}/nothing`)).status).toBe(404);
  });
});
