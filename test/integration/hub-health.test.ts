/** The listener of probes and scrapers alone: what it answers, and that neither a fleet that comes back nor whoever holds connections is in the way. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import type { HttpBindings } from '@hono/node-server';
import { Hono } from 'hono';
import { describe, expect, it } from 'vitest';
import { parseHubConfig } from '../../hub/config.ts';
import { serveHealth } from '../../hub/http/health-endpoint.ts';
import { SUBPROTOCOL } from '../../shared/protocol/version.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { ownPort } from '../support/own-port.ts';
import { addTestHost } from '../support/test-agent.ts';
import { startTestHub, type TestHub } from '../support/test-hub.ts';

const ANY = '127.0.0.1:0';

describe('the listener of probes', () => {
  it('is not there unless it is asked for', async () => {
    await using hub = await startTestHub();
    expect(hub.hub.healthAddress).toBeUndefined();
  });

  it('answers what the hub itself answers to probes, and nothing else', async () => {
    await using hub = await startTestHub({ healthListen: ANY });
    const url = healthUrl(hub);
    for (const path of ['/livez', '/healthz', '/readyz?verbose', '/version'])
      expect(await get(url + path)).toEqual(await get(hub.url + path));
    expect((await get(`${url}/metrics`)).body).toContain('fairlead_hub_hosts_connected 0');
    for (const path of ['/agent/challenge', '/agent', '/rpc', '/enrol']) expect((await get(url + path)).status).toBe(404);
    const call = { jsonrpc: '2.0', id: 1, method: 'host.list', params: {} };
    const headers = { authorization: `Bearer ${hub.adminToken}`, connection: 'close' };
    expect((await fetch(`${url}/rpc`, { method: 'POST', headers, body: JSON.stringify(call) })).status).toBe(404);
    const upgrade = ['GET /rpc HTTP/1.1', 'host: hub', `authorization: Bearer ${hub.adminToken}`, 'connection: upgrade, close'];
    const socket = ['upgrade: websocket', 'sec-websocket-version: 13', 'sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA=='];
    const lines = [...upgrade, ...socket, `sec-websocket-protocol: ${SUBPROTOCOL}`];
    expect(await exchange(hub, `${lines.join('\r\n')}\r\n\r\n`)).toMatch(/^HTTP\/1.1 404 /);
  });

  it('says that the hub is not ready while it drains, and is gone with it', async () => {
    const hub = await startTestHub({ healthListen: ANY, drainMs: 60_000 });
    const url = healthUrl(hub);
    const asked = Promise.withResolvers<unknown>();
    const agent = await addTestHost(hub, 'h1', { onGoAway: asked.resolve });
    const stopped = hub.hub.stop();
    await asked.promise;
    expect(await get(`${url}/readyz`)).toMatchObject({ status: 503, body: expect.stringContaining('the hub is shutting down') });
    expect((await get(`${url}/livez`)).status).toBe(200);
    agent.line.close();
    await stopped;
    await expect(get(`${url}/livez`)).rejects.toThrow('fetch failed');
  });

  it('whose address is taken keeps the hub from its start, with nothing left open', async () => {
    await using first = await startTestHub({ healthListen: ANY });
    const taken = `127.0.0.1:${first.hub.healthAddress?.port}`;
    const port = await ownPort();
    const listen = `127.0.0.1:${port}`;
    await expect(startTestHub({ listen, healthListen: taken })).rejects.toThrow(
      expect.objectContaining({ code: 'CONNECT_FAILED', message: expect.stringContaining(taken) }),
    );
    await using next = await startTestHub({ listen, healthListen: ANY });
    expect(next.hub.address.port).toBe(port);
    await expect(startTestHub({ listen, healthListen: ANY })).rejects.toThrow(
      expect.objectContaining({ code: 'CONNECT_FAILED' }),
    );
  });

  it('is answered before those that wait at the address of the agents', async () => {
    await using hub = await startTestHub({ healthListen: ANY });
    const ask = 'GET /livez HTTP/1.1\r\nhost: hub\r\nconnection: close\r\n\r\n';
    let answered = 0;
    // All are in the kernel's queues before the event loop turns again.
    const waiting = Array.from({ length: 200 }, async () => {
      await say(hub.hub.address.port, ask);
      answered += 1;
    });
    const probe = exchange(hub, ask);
    expect(await probe).toMatch(/^HTTP\/1.1 200 /);
    expect(answered).toBeLessThan(100);
    await Promise.all(waiting);
  });

  it('is free for a probe whatever others hold open', async () => {
    const clock = new FakeClock();
    const config = parseHubConfig({ dataDir: ':memory:', healthListen: ANY });
    const app = new Hono<{ Bindings: HttpBindings }>().get('/livez', (context) => context.text('ok\n'));
    const endpoint = await serveHealth({ config, app, clock, lagMs: () => 0 });
    const idlers: Socket[] = [];
    try {
      const port = endpoint?.address.port ?? 0;
      for (let count = 0; count < 256; count++) {
        const socket = connect(port, '127.0.0.1').on('error', () => {});
        idlers.push(socket);
        socket.write('GET /livez HTTP/1.1\r\nhost: hub\r\n\r\n');
      }
      await Promise.all(idlers.map((socket) => once(socket, 'data')));
      await expect(get(`http://127.0.0.1:${port}/livez`), 'there are too many, and all may be honest').rejects.toThrow(
        'fetch failed',
      );
      clock.advance(3000);
      expect(await get(`http://127.0.0.1:${port}/livez`)).toMatchObject({ status: 200 });
    } finally {
      for (const socket of idlers) socket.destroy();
      endpoint?.close();
    }
  });
});

function healthUrl(hub: TestHub): string {
  return hub.hub.healthAddress?.url ?? 'none';
}

async function get(url: string): Promise<{ status: number; body: string }> {
  const response = await fetch(url, { headers: { connection: 'close' } });
  return { status: response.status, body: await response.text() };
}

/** What the listener of probes says to that until it closes. */
function exchange(hub: TestHub, request: string): Promise<string> {
  return say(hub.hub.healthAddress?.port ?? 0, request);
}

function say(port: number, request: string): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  socket.write(request);
  return text(socket);
}
