import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { type Agent, type AgentOptions, createAgent } from '../../agent/agent.ts';
import { defaultRamDir, parseAgentConfig } from '../../agent/config.ts';
import { createApp } from '../../agent/http/app.ts';
import type { LinkStatus } from '../../agent/link/link.ts';
import { MuxChannel } from '../../shared/mux/channel.ts';
import { channelDuplex } from '../../shared/node/channel-duplex.ts';
import { FakeHub } from '../support/fake-hub.ts';
import { FakeVms } from '../support/fake-vms.ts';

const scope: AsyncDisposable[] = [];
afterEach(async () => {
  for (const resource of scope.splice(0).toReversed()) await resource[Symbol.asyncDispose]();
});

/** Port 1 (tcpmux) has no listener. */
const NOBODY = 'ws://127.0.0.1:1';
const silent = { debug() {}, info() {}, warn() {}, error() {} };

async function directory(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'fl-agent-'));
  scope.push({ [Symbol.asyncDispose]: () => rm(path, { recursive: true }) });
  return path;
}

interface Running {
  readonly agent: Agent;
  readonly vms: FakeVms;
  readonly stateDir: string;
  get(path: string): Promise<{ status: number; text: string; type: string | null }>;
}

async function startAgent(hub: string, config: object = {}, options: Partial<AgentOptions> = {}): Promise<Running> {
  const stateDir = await directory();
  const vms = new FakeVms();
  const agent = createAgent({
    config: parseAgentConfig({
      hub,
      host: 'edge-1',
      stateDir,
      token: 'token-1',
      vsock: 'off',
      httpListen: '127.0.0.1:0',
      ...config,
    }),
    logger: silent,
    searchPath: '/usr/bin',
    openVms: async () => vms,
    ...options,
  });
  scope.push(agent);
  await agent.start();
  const get = async (path: string) => {
    const response = await fetch(`${agent.httpAddress}${path}`);
    return { status: response.status, text: await response.text(), type: response.headers.get('content-type') };
  };
  return { agent, vms, stateDir, get };
}

async function startConnected(config?: object) {
  const hub = await FakeHub.start();
  scope.push(hub);
  const line = hub.nextLine();
  const running = await startAgent(hub.address, config);
  return { ...running, hub, line: await line };
}

/** The sample of a metric in Prometheus' text format. */
function sample(text: string, name: string): number | undefined {
  const line = text.split('\n').find((candidate) => candidate.startsWith(`${name} `));
  return line === undefined ? undefined : Number(line.slice(name.length + 1));
}

describe('the health of an agent', () => {
  it('is good while its line is up', async () => {
    const { get } = await startConnected();
    expect(await get('/livez')).toMatchObject({ status: 200, text: 'ok\n' });
    expect(await get('/healthz')).toMatchObject({ status: 200 });
    expect(await get('/readyz')).toMatchObject({ status: 200, text: 'ok\n' });
    expect((await get('/readyz?verbose')).text).toBe(
      '[+]shutdown ok\n[+]link ok\n[+]state-dir ok\n[+]vms ok\n[+]qemu ok\n[+]journal ok\nreadyz check passed\n',
    );
    expect(JSON.parse((await get('/version')).text)).toMatchObject({ contractVersion: 1 });
    expect((await get('/nowhere')).status).toBe(404);
  });

  it('suffers by the absence of the hub in /readyz alone', async () => {
    const failed = Promise.withResolvers<void>();
    const { get } = await startAgent(NOBODY, {}, { onLink: ({ lastError }) => lastError !== undefined && failed.resolve() });
    expect((await get('/livez')).status).toBe(200);
    await failed.promise;
    const ready = await get('/readyz');
    expect(ready.status).toBe(503);
    expect(ready.text).toMatch(/^\[-\]link failed: .*ECONNREFUSED/m);
    expect((await get('/readyz?exclude=link&exclude=moon&verbose')).text).toContain('warn: no check is called "moon"');
    expect((await get('/readyz?exclude=link')).status).toBe(200);
  });

  it('is served on a unix socket that others may not open', async () => {
    const path = join(await directory(), 'agent.sock');
    const { agent } = await startConnected({ httpListen: `unix:${path}` });
    expect(agent.httpAddress).toBe(`unix:${path}`);
    expect((await stat(path)).mode & 0o777).toBe(0o660);
    const [response] = await once(request({ socketPath: path, path: '/livez' }).end(), 'response');
    expect(response.resume().statusCode).toBe(200);
  });

  it('is not served when it is turned off', async () => {
    const { agent } = await startConnected({ httpListen: 'off' });
    expect(agent.httpAddress).toBeUndefined();
  });

  it('keeps the agent from starting when its address is taken', async () => {
    const { agent } = await startConnected();
    const taken = new URL(agent.httpAddress ?? '').host;
    await expect(startAgent(NOBODY, { httpListen: taken })).rejects.toMatchObject({
      code: 'CONFLICT',
      message: expect.stringContaining('set httpListen'),
    });
  });

  it('says when a check does not answer, and goes on', async () => {
    const metrics = () => Promise.reject(new Error('none'));
    const app = createApp({ checks: [{ name: 'stuck', run: () => Promise.reject(new Error('broken')) }], metrics });
    const response = await app.request('/readyz');
    expect(response.status).toBe(503);
    expect(await response.text()).toBe('[-]stuck failed: broken\nreadyz check failed\n');
    expect((await app.request('/metrics')).status).toBe(500);
  });
});

describe('the metrics of an agent', () => {
  it('count from before the first scrape', async () => {
    const { get, line } = await startConnected();
    await line.peer.call('vm.get', { vm: 'web' });
    await expect(line.peer.call('vm.get', { vm: 'db' })).rejects.toMatchObject({ code: 'NOT_FOUND' });
    const { text, type } = await get('/metrics');
    expect(type).toContain('text/plain');
    expect(sample(text, 'fairlead_link_up')).toBe(1);
    expect(sample(text, 'fairlead_link_connects_total{result="ok"}')).toBe(1);
    expect(sample(text, 'fairlead_rpc_requests_total{method="vm.get",code="OK"}')).toBe(1);
    expect(sample(text, 'fairlead_rpc_requests_total{method="vm.get",code="NOT_FOUND"}')).toBe(1);
    expect(sample(text, 'fairlead_rpc_requests_total{method="vm.start",code="OK"}')).toBe(0);
    expect(sample(text, 'fairlead_rpc_request_duration_seconds_count{method="vm.get"}')).toBe(2);
    expect(sample(text, 'fairlead_rpc_in_flight')).toBe(0);
    expect(sample(text, 'fairlead_vms{state="running"}')).toBe(1);
    expect(sample(text, 'fairlead_vms{state="crashed"}')).toBe(0);
    expect(sample(text, 'fairlead_stream_bytes_total{direction="to_guest"}')).toBe(0);
    expect(text).toContain('process_resident_memory_bytes');
  });
});

describe('an agent and its hub', () => {
  it('open streams to guests, and tell why one is not opened', async () => {
    const { line, get } = await startConnected({ vsockPorts: ['1000-2000'] });
    const open = (params: object) => MuxChannel.open(line.mux, { method: 'stream.open', params: { ...params } });
    const channel = await open({ vm: 'web', port: 1234 });
    expect(channel.meta).toEqual({ transport: 'vhost-vsock', halfClose: true, generation: 1 });
    const stream = channelDuplex(channel);
    expect(sample((await get('/metrics')).text, 'fairlead_streams_open')).toBe(1);
    stream.end('hello');
    let text = '';
    for await (const chunk of stream) text += String(chunk);
    expect(text).toBe('hello');
    await expect(open({ vm: 'web', port: 22 })).rejects.toMatchObject({ code: 'PERMISSION_DENIED' });
    await expect(open({ vm: 'db', port: 1234 })).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(open({ vm: 'web' })).rejects.toMatchObject({ code: 'INVALID_PARAMS' });
    await expect(MuxChannel.open(line.mux, { method: 'vm.get' })).rejects.toMatchObject({ code: 'METHOD_NOT_FOUND' });
  });

  it('share what happens to VMs', async () => {
    const { hub, vms, agent } = await startConnected();
    expect(agent.link.state).toBe('up');
    const told = once(hub, 'notification');
    vms.events.append({ vm: 'web', type: 'vm.paused', state: 'paused', data: { generation: 1 } });
    expect(await told).toMatchObject(['vm.event', { seq: 1, vm: 'web', type: 'vm.paused' }]);
  });

  it('part in order: the hub is told, VMs are let go of, and nothing answers any more', async () => {
    const { agent, line, vms } = await startConnected();
    await agent.stop();
    expect(await line.closed).toMatchObject({ code: 1000 });
    expect(vms.closed).toBe(true);
    expect(agent.link.state).toBe('stopped');
    await expect(fetch(`${agent.httpAddress}/livez`)).rejects.toThrow('fetch failed');
    await agent.stop();
  });

  it('leave no empty directory for the RAM of guests behind, and none that has any', async () => {
    for (const isEmpty of [true, false]) {
      const { agent, stateDir } = await startConnected();
      const ramDir = defaultRamDir(stateDir);
      await mkdir(ramDir, { mode: 0o700 });
      scope.push({ [Symbol.asyncDispose]: () => rm(ramDir, { recursive: true, force: true }) });
      if (!isEmpty) await writeFile(join(ramDir, 'web.ram'), '');
      await agent.stop();
      expect(existsSync(ramDir)).toBe(!isEmpty);
    }
  });

  it('do without each other: calls wait until VMs are adopted', async () => {
    const hub = await FakeHub.start();
    scope.push(hub);
    const { promise: adopted, resolve } = Promise.withResolvers<void>();
    const states: LinkStatus['state'][] = [];
    const line = hub.nextLine();
    const starting = startAgent(
      hub.address,
      {},
      {
        openVms: async () => {
          await adopted;
          return new FakeVms();
        },
        onLink: ({ state }) => states.push(state),
      },
    );
    const call = (await line).peer.call('vm.list', {});
    resolve();
    expect(await call).toMatchObject({ vms: [{ name: 'web' }] });
    await starting;
    expect(states).toEqual(['enrolling', 'dialling', 'up']);
  });

  it('do not start when the host state cannot be read', async () => {
    const broken = { openVms: () => Promise.reject(new Error('the disk is gone')) };
    await expect(startAgent(NOBODY, {}, broken)).rejects.toThrow('the disk is gone');
  });
});
