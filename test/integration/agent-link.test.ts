import { once } from 'node:events';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { Link, type LinkOptions, type LinkStatus } from '../../agent/link/link.ts';
import { FairleadError, type JsonObject } from '../../shared/errors.ts';
import { FakeHub, type FakeHubOptions } from '../support/fake-hub.ts';
import { makeSelfSigned } from '../support/self-signed.ts';

const scope: AsyncDisposable[] = [];
afterEach(async () => {
  for (const resource of scope.splice(0).toReversed()) await resource[Symbol.asyncDispose]();
});

function use<T extends AsyncDisposable>(resource: T): T {
  scope.push(resource);
  return resource;
}

async function directory(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'fl-link-'));
  use({ [Symbol.asyncDispose]: () => rm(path, { recursive: true }) });
  return path;
}

const startHub = async (options?: FakeHubOptions) => use(await FakeHub.start(options));

interface Watched {
  readonly link: Link;
  readonly states: string[];
  /** Settles with the first status of which `test` is true, from now on. */
  until(test: (status: LinkStatus) => boolean): Promise<LinkStatus>;
}

const isUp = ({ state }: LinkStatus) => state === 'up';
const isWaiting = ({ state }: LinkStatus) => state === 'backoff';

async function startLink(
  hub: string,
  config: Partial<LinkOptions['config']> = {},
  options: Partial<LinkOptions> = {},
): Promise<Watched> {
  const states: string[] = [];
  const watchers = new Set<(status: LinkStatus) => void>();
  const link = new Link({
    config: {
      hub,
      host: 'edge-1',
      labels: { zone: 'a' },
      stateDir: config.stateDir ?? (await directory()),
      token: 'token-1',
      behindProxy: false,
      dialTimeout: 2000,
      maxBackoff: 20,
      ...config,
    },
    service: {
      onRequest: (method, params) =>
        method === 'echo' ? Promise.resolve(params) : Promise.reject(new FairleadError('METHOD_NOT_FOUND', `no ${method}`)),
      onOpen: (stream) => stream.refuse(new FairleadError('UNSUPPORTED', 'no streams here')),
    },
    logger: { debug() {}, info() {}, warn() {}, error() {} },
    onState: (status) => {
      states.push(status.state);
      for (const watcher of watchers) watcher(status);
    },
    ...options,
  });
  use({ [Symbol.asyncDispose]: () => link.stop(0) });
  const until = (test: (status: LinkStatus) => boolean) =>
    new Promise<LinkStatus>((resolve) => {
      const watcher = (status: LinkStatus) => {
        if (!test(status)) return;
        watchers.delete(watcher);
        resolve(status);
      };
      watchers.add(watcher);
    });
  return { link, states, until };
}

/** Starts the link and waits for what comes of its first attempt. */
async function firstOutcome(
  hub: string,
  config: Partial<LinkOptions['config']> = {},
  options: Partial<LinkOptions> = {},
): Promise<LinkStatus> {
  const { link, until } = await startLink(hub, config, options);
  const outcome = until((status) => isUp(status) || isWaiting(status));
  link.start();
  return outcome;
}

describe('the line to the hub', () => {
  it('comes up after an enrolment, and again without one', async () => {
    const hub = await startHub();
    const stateDir = await directory();
    const enrolled = once(hub, 'enrolled');
    const first = await startLink(hub.address, { stateDir });
    first.link.start();
    const line = await hub.nextLine();
    expect(await line.peer.call('echo', { a: 1 })).toEqual({ a: 1 });
    expect((await enrolled)[0]).toMatchObject({ host: 'edge-1', labels: { zone: 'a' } });
    expect(first.states).toEqual(['enrolling', 'dialling', 'up']);
    await first.link.stop(0);
    expect(first.states.at(-1)).toBe('stopped');

    const second = await startLink(hub.address, { stateDir });
    second.link.start();
    await hub.nextLine();
    expect(second.states[0]).toBe('dialling');
    expect((await stat(join(stateDir, 'host-key.pem'))).mode & 0o777).toBe(0o600);
    expect(await readFile(join(stateDir, 'identity.json'), 'utf8')).not.toContain('token-1');
  });

  it('tells the hub what happens while it is up', async () => {
    const hub = await startHub();
    const { link, until } = await startLink(hub.address);
    const up = until(isUp);
    link.start();
    link.notify('vm.event', { early: true });
    await Promise.all([up, hub.nextLine()]);
    const told = once(hub, 'notification');
    link.notify('vm.event', { seq: 1 });
    expect(await told).toEqual(['vm.event', { seq: 1 } satisfies JsonObject]);
  });

  it('comes back after it was cut, and calls that were pending are settled', async () => {
    const hub = await startHub();
    const { link, until } = await startLink(hub.address);
    link.start();
    const line = await hub.nextLine();
    const back = hub.nextLine();
    const waiting = until(isWaiting);
    line.close(1011, 'test');
    expect((await waiting).lastError).toContain('the line was lost');
    expect(await (await back).peer.call('echo', {})).toEqual({});
  });

  it('leaves when the hub asks, and comes back within the time that the hub names', async () => {
    const hub = await startHub();
    const { link, states, until } = await startLink(hub.address, {}, { random: () => 0 });
    link.start();
    const line = await hub.nextLine();
    const left = until(isWaiting);
    const back = hub.nextLine();
    line.goAway({ drainMs: 1000, spreadMs: 10, reason: 'restart' });
    await Promise.all([left, back]);
    expect((await line.closed).error).toBeUndefined();
    expect(states.filter((state) => state === 'up')).toHaveLength(2);
  });

  it('says good-bye when the agent stops', async () => {
    const hub = await startHub();
    const { link } = await startLink(hub.address);
    link.start();
    const line = await hub.nextLine();
    await link.stop(0);
    expect(await line.closed).toMatchObject({ error: undefined, code: 1000 });
  });

  it('is bound to its TLS connection', async () => {
    const { cert, keyPath } = use(await makeSelfSigned());
    const tls = { cert, key: await readFile(keyPath, 'utf8') };
    const hub = await startHub({ tls });
    const stateDir = await directory();
    const caFile = join(stateDir, 'ca.pem');
    await writeFile(caFile, cert);
    const { link } = await startLink(hub.address, { stateDir, caFile });
    link.start();
    const line = await hub.nextLine();
    expect(await line.peer.call('echo', { over: 'tls' })).toEqual({ over: 'tls' });
  });

  it('is not made over TLS to somebody who has no certificate for it', async () => {
    const { cert, keyPath } = use(await makeSelfSigned());
    const hub = await startHub({ tls: { cert, key: await readFile(keyPath, 'utf8') } });
    const status = await firstOutcome(hub.address);
    expect(status.lastError).toMatch(/could not reach the hub at .*certificate/);
  });

  it('finds a peer that has gone silent', async () => {
    const hub = await startHub({ onSocket: () => {} });
    const status = await firstOutcome(hub.address, {}, { lineLimits: { helloTimeoutMs: 50 } });
    expect(status.lastError).toContain('did not begin the line');
  });
});

describe('a hub that says no', () => {
  it('to a token that is used up is told of, and asked more slowly', async () => {
    const hub = await startHub({ tokens: [] });
    const results: string[] = [];
    const { link, until } = await startLink(
      hub.address,
      { maxBackoff: 40 },
      { onAttempt: (result) => results.push(result), random: () => 0.5 },
    );
    const waits: LinkStatus[] = [];
    const second = until((status) => isWaiting(status) && waits.push(status) === 2);
    link.start();
    await second;
    expect(results).toEqual(['refused', 'refused']);
    expect(waits[0]?.lastError).toContain('refused this host: the token is unknown or used up');
    expect(waits[0]?.retryInMs).toBeLessThanOrEqual(20);
    expect(waits[1]?.retryInMs).toBeGreaterThan(30);
  });

  it('because nobody enrolled this host is told of', async () => {
    const status = await firstOutcome((await startHub()).address, { token: undefined });
    expect(status.lastError).toContain('not enrolled and has no token');
  });

  it('to its own host again is obeyed once it names a new token', async () => {
    const hub = await startHub({ tokens: ['token-1', 'token-2'] });
    const stateDir = await directory();
    const first = await startLink(hub.address, { stateDir });
    first.link.start();
    await hub.nextLine();
    await first.link.stop(0);
    hub.keys.clear();
    expect((await firstOutcome(hub.address, { stateDir })).lastError).toContain('the proof is wrong');
    expect((await firstOutcome(hub.address, { stateDir, token: 'token-2' })).state).toBe('up');
  });

  it('is another one than this host enrolled with', async () => {
    const stateDir = await directory();
    const right = await startHub();
    const first = await startLink(right.address, { stateDir });
    first.link.start();
    await right.nextLine();
    await first.link.stop(0);
    const wrong = await startHub({ hubId: 'hub-2' });
    const status = await firstOutcome(wrong.address, { stateDir });
    expect(status.lastError).toContain('is not the hub that this host enrolled with (it is hub-2, not hub-1)');
  });

  it('and names a time is left alone for that time', async () => {
    const hub = await startHub({
      onRequest: (_request, response) => {
        response.writeHead(503, { 'retry-after': '7' }).end('{"error":{"code":"LIMIT_EXCEEDED","message":"too many"}}');
        return true;
      },
    });
    const status = await firstOutcome(hub.address, {}, { random: () => 0 });
    expect(status.lastError).toContain('asks to come later: too many');
    expect(status.retryInMs).toBeGreaterThan(6000);
  });
});

describe('a hub that talks nonsense', () => {
  const upgrades: Record<string, string> = {
    'another sub-protocol':
      'HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-protocol: chat\r\n\r\n',
    'a 101 of nothing': 'HTTP/1.1 101 Switching Protocols\r\n\r\n',
    'a page': 'HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello',
    'a redirect': 'HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n',
    bytes: '\u0000\u0001\u0002 nonsense \r\n\r\n',
  };
  it.each(Object.entries(upgrades))('answers the upgrade with %s', async (_name, answer) => {
    const hub = await startHub({ onUpgrade: (_request, socket) => socket.end(answer) !== undefined });
    const results: string[] = [];
    const status = await firstOutcome(hub.address, {}, { onAttempt: (result) => results.push(result) });
    expect(status.state).toBe('backoff');
    expect(results).toEqual(['protocol']);
    expect(status.lastError).toMatch(/127\.0\.0\.1:\d+/);
  });

  it.each([
    ['no JSON', '<html>hello</html>'],
    ['JSON of another kind', '{"nonce": 7}'],
    ['far too much', `"${'x'.repeat(100_000)}"`],
  ])('answers the challenge with %s', async (_name, body) => {
    const hub = await startHub({
      onRequest: (request, response) => request.url === '/agent/challenge' && response.writeHead(200).end(body) !== undefined,
    });
    const results: string[] = [];
    await firstOutcome(hub.address, {}, { onAttempt: (result) => results.push(result) });
    expect(results).toEqual(['protocol']);
  });

  it.each([
    ['text that is no JSON', (send: (data: string | Buffer) => void) => send('nonsense')],
    ['a binary frame that is cut short', (send: (data: string | Buffer) => void) => send(Buffer.from([1, 2, 3]))],
  ])('sends %s', async (_name, misbehave) => {
    const hub = await startHub({ onSocket: (socket) => misbehave((data) => socket.send(data)) });
    const results: string[] = [];
    const status = await firstOutcome(hub.address, {}, { onAttempt: (result) => results.push(result) });
    expect(results).toEqual(['protocol']);
    expect(status.lastError).toContain('did not begin the line');
  });

  it('does not answer at all', async () => {
    const hub = await startHub({ onRequest: () => true });
    const status = await firstOutcome(hub.address, { dialTimeout: 100 });
    expect(status.lastError).toContain('no answer in time');
  });

  it('is not there', async () => {
    const hub = await FakeHub.start();
    const { address } = hub;
    await hub[Symbol.asyncDispose]();
    const status = await firstOutcome(address);
    expect(status.lastError).toContain('ECONNREFUSED');
  });
});
