/** Who gets past the hub's door and who does not: each way to fail, its status, its words, and what is counted. */
import { once } from 'node:events';
import { copyFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../shared/clock.ts';
import { generateHostKey } from '../../shared/node/host-key.ts';
import { type ConnectProof, formatAuthorization } from '../../shared/protocol/handshake.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { makeSelfSigned } from '../support/self-signed.ts';
import {
  addTestHost,
  agentOn,
  askChallenge,
  connectTestAgent,
  connectTestOperator,
  connectTls,
  enrolHost,
  makeProof,
  type Refused,
  type UpgradeRequest,
  upgrade,
} from '../support/test-agent.ts';
import { startTestHub, type TestHub } from '../support/test-hub.ts';

/** A hub with one host enrolled, and the parts to connect it by hand. */
async function enrolled(hub: TestHub, host = 'h1') {
  const key = generateHostKey();
  const { status } = await enrolHost(hub.url, { host, key, token: await hub.hub.bootstrap.enrolToken() });
  expect(status).toBe(200);
  const proof = async (changes: Partial<ConnectProof> = {}) =>
    formatAuthorization(makeProof({ host, key, challenge: await askChallenge(hub.url), changes }));
  return { host, key, proof };
}

/** The refusal of an upgrade that must not succeed. */
async function refused(request: UpgradeRequest): Promise<Refused> {
  const answer = await upgrade(request, (socket) => {
    socket.terminate();
    return undefined;
  });
  if (answer === undefined) throw new Error('the upgrade was not refused');
  return answer;
}

async function rawConnection(url: string): Promise<Socket> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  await once(socket, 'connect');
  return socket;
}

const metric = async (hub: TestHub) => await (await fetch(`${hub.url}/metrics`)).text();

describe('enrolment', () => {
  it('takes a token once, and says why not a second time', async () => {
    await using hub = await startTestHub();
    const token = await hub.hub.bootstrap.enrolToken();
    const first = await enrolHost(hub.url, { host: 'h1', key: generateHostKey(), token });
    expect(first).toMatchObject({ status: 200, body: { host: 'h1', hubId: hub.hub.hubId } });
    const second = await enrolHost(hub.url, { host: 'h2', key: generateHostKey(), token });
    expect(second).toMatchObject({ status: 401, body: { error: { code: 'UNAUTHENTICATED' } } });
    expect(second.body.error?.message).toContain('is used up');
    expect(await hub.logged('enrolment of h1 ended with OK')).toMatchObject({ fields: { audit: true } });
    await hub.logged('enrolment of h2 ended with UNAUTHENTICATED');
  });

  it('refuses a wrong token, a taken name and a body that is none', async () => {
    await using hub = await startTestHub();
    await enrolled(hub);
    const wrong = `fle_${'0'.repeat(16)}_${'A'.repeat(43)}`;
    const key = generateHostKey();
    expect(await enrolHost(hub.url, { host: 'h2', key, token: wrong })).toMatchObject({ status: 401 });
    const token = await hub.hub.bootstrap.enrolToken();
    const taken = await enrolHost(hub.url, { host: 'h1', key, token });
    expect(taken).toMatchObject({ status: 409, body: { error: { code: 'CONFLICT' } } });
    const post = (body: string) => fetch(`${hub.url}/agent/enrol`, { method: 'POST', body });
    expect((await post('{"token":')).status).toBe(400);
    expect((await post('{"token":"x"}')).status).toBe(400);
    expect((await post(' '.repeat(100_000))).status).toBe(413);
  });

  it('tells whoever comes too often when to come again', async () => {
    const clock = new FakeClock();
    await using hub = await startTestHub({ addressHandshakeBurst: 2, addressHandshakesPerSecond: 1 }, { clock });
    const ask = () => fetch(`${hub.url}/agent/challenge`);
    expect([(await ask()).status, (await ask()).status]).toEqual([200, 200]);
    // Each has its turn a second after the one before: the last of these would be held for longer than anybody is.
    const asked = Array.from({ length: 5 }, ask);
    expect((await Promise.race(asked)).status).toBe(429);
    // An upgrade is not held.
    expect(await refused({ url: hub.url, authorization: 'x' })).toMatchObject({ status: 429, code: 'LIMIT_EXCEEDED' });
    await expect.poll(() => metric(hub)).toContain('{endpoint="challenge",reason="rate"} 2');
    clock.advance(3000);
    const all = (await Promise.all(asked)).toSorted((one, other) => one.status - other.status);
    expect(all.map(({ status }) => status)).toEqual([200, 200, 200, 429, 429]);
    expect(Number(all[4]?.headers.get('retry-after'))).toBeGreaterThanOrEqual(4);
  });
});

describe("an agent's upgrade", () => {
  it('succeeds with a fresh proof and gives the session an epoch', async () => {
    await using hub = await startTestHub();
    await using agent = await addTestHost(hub, 'h1');
    expect(await agent.line.ready).toMatchObject({ role: 'hub', session: { epoch: 1 } });
    expect(agent.socket.protocol).toBe('fairlead.v1');
  });

  it('is refused without a proof or with nonsense for one', async () => {
    await using hub = await startTestHub();
    for (const authorization of [undefined, 'Bearer x', 'Fairlead-Ed25519 e30', `Fairlead-Ed25519 ${'A'.repeat(3000)}`]) {
      expect(await refused({ url: hub.url, authorization })).toMatchObject({ status: 401, code: 'UNAUTHENTICATED' });
    }
    expect(await metric(hub)).toContain('fairlead_hub_handshakes_refused_total{endpoint="agent",reason="malformed"} 4');
  });

  it('is refused when the nonce was used already', async () => {
    await using hub = await startTestHub();
    const { host, proof } = await enrolled(hub);
    const authorization = await proof();
    const agent = await upgrade({ url: hub.url, authorization }, (socket) => agentOn(socket, { host }));
    expect(agent).toHaveProperty('line');
    expect(await refused({ url: hub.url, authorization })).toMatchObject({ message: expect.stringContaining('used already') });
  });

  it('is refused when the challenge has expired', async () => {
    let laterMs = 0;
    await using hub = await startTestHub({}, { clock: { ...systemClock, now: () => systemClock.now() + laterMs } });
    const { proof } = await enrolled(hub);
    const authorization = await proof();
    laterMs = 31_000;
    expect(await refused({ url: hub.url, authorization })).toMatchObject({
      status: 401,
      message: expect.stringContaining('expired'),
    });
  });

  it('is refused with the signature of another key, of another host, or with a changed field', async () => {
    await using hub = await startTestHub();
    const { host, key, proof } = await enrolled(hub);
    const other = generateHostKey();
    const challenge = async () => await askChallenge(hub.url);
    const forged = formatAuthorization(makeProof({ host, key: other, challenge: await challenge() }));
    expect(await refused({ url: hub.url, authorization: forged })).toMatchObject({
      status: 401,
      message: expect.stringContaining('signed'),
    });
    const unknown = formatAuthorization(makeProof({ host: 'h9', key, challenge: await challenge() }));
    expect(await refused({ url: hub.url, authorization: unknown })).toMatchObject({
      message: expect.stringContaining('not enrolled'),
    });
    const elsewhere = formatAuthorization(makeProof({ host, key, challenge: { ...(await challenge()), hubId: 'another-hub' } }));
    expect(await refused({ url: hub.url, authorization: elsewhere })).toMatchObject({ status: 401 });
    const bound = await proof({ binding: 'tls-exporter' });
    expect(await refused({ url: hub.url, authorization: bound })).toMatchObject({ message: expect.stringContaining('proxy') });
  });

  it('is refused from a web page, for another sub-protocol, and on another path', async () => {
    await using hub = await startTestHub();
    const { proof } = await enrolled(hub);
    const origin = 'https://evil.example';
    expect(await refused({ url: hub.url, authorization: await proof(), origin })).toMatchObject({ status: 403 });
    const protocols = await refused({ url: hub.url, authorization: await proof(), protocols: ['fairlead.v9'] });
    expect(protocols).toMatchObject({ status: 426, code: 'PROTOCOL_ERROR', message: expect.stringContaining('fairlead.v1') });
    expect(await refused({ url: hub.url, path: '/other' })).toMatchObject({ status: 404 });
  });
});

describe("an operator's upgrade", () => {
  it('needs a token of an operator', async () => {
    await using hub = await startTestHub();
    const at = (authorization?: string) => refused({ url: hub.url, path: '/rpc', authorization });
    expect(await at()).toMatchObject({ status: 401, headers: { 'www-authenticate': expect.stringContaining('Bearer') } });
    expect(await at('Bearer flo_wrong')).toMatchObject({ status: 401 });
    expect(await at(`Bearer ${await hub.hub.bootstrap.enrolToken()}`)).toMatchObject({ status: 401 });
    expect(await at(`Basic ${hub.adminToken}`)).toMatchObject({ status: 401 });
  });

  it('is refused from a web page that is not allowed', async () => {
    await using hub = await startTestHub({ allowedOrigins: ['https://console.example'] });
    const request = { url: hub.url, path: '/rpc', authorization: `Bearer ${hub.adminToken}` };
    expect(await refused({ ...request, origin: 'https://evil.example' })).toMatchObject({ status: 403 });
    const allowed = await upgrade({ ...request, origin: 'https://console.example' }, (socket) => socket);
    expect(allowed).toHaveProperty('protocol', 'fairlead.v1');
    if (!('code' in allowed)) allowed.terminate();
  });

  it('is refused when as many operators are connected as may be', async () => {
    await using hub = await startTestHub({ maxOperators: 1 });
    await using _first = await connectTestOperator(hub.url, hub.adminToken);
    await expect(connectTestOperator(hub.url, hub.adminToken)).rejects.toThrow('refused with 503');
  });

  it('is refused when its token has three quarters of the places, and another token still has the rest', async () => {
    await using hub = await startTestHub({ maxOperators: 4 });
    await using operators = new AsyncDisposableStack();
    for (let place = 0; place < 3; place++) operators.use(await connectTestOperator(hub.url, hub.adminToken));
    const authorization = `Bearer ${hub.adminToken}`;
    expect(await refused({ url: hub.url, path: '/rpc', authorization })).toMatchObject({
      status: 429,
      message: expect.stringContaining('3 operators with this token are connected'),
    });
    const { body } = await hub.post('token.create', { kind: 'operator' });
    operators.use(await connectTestOperator(hub.url, String(body.result?.['token'])));
  });
});

describe('a hub with TLS', () => {
  it('binds the proof to the TLS connection and takes no other', async () => {
    await using certificate = await makeSelfSigned();
    await using hub = await startTestHub({ tlsCert: certificate.certPath, tlsKey: certificate.keyPath });
    const host = 'h1';
    const key = generateHostKey();
    const ask = async (path: string, body?: object) => await overTls(hub.url, certificate.cert, path, body);
    const token = await hub.hub.bootstrap.enrolToken();
    await enrolHost(hub.url, { host, key, token, post: (path, body) => ask(path, body) });
    const challenge = async () => (await ask('/agent/challenge')).body as Awaited<ReturnType<typeof askChallenge>>;

    const tls = await connectTls(hub.url, certificate.cert);
    const authorization = formatAuthorization(makeProof({ host, key, challenge: await challenge(), tls }));
    const agent = await upgrade({ url: hub.url, authorization, tls }, (socket) => agentOn(socket, { host }));
    if ('status' in agent) throw new Error(agent.message);
    await using _agent = agent;
    expect(await agent.line.ready).toMatchObject({ role: 'hub' });

    const carried = await connectTls(hub.url, certificate.cert);
    const bound = await connectTls(hub.url, certificate.cert);
    const stolen = formatAuthorization(makeProof({ host, key, challenge: await challenge(), tls: bound }));
    expect(await refused({ url: hub.url, authorization: stolen, tls: carried })).toMatchObject({ status: 401 });
    bound.destroy();

    const unbound = await connectTls(hub.url, certificate.cert);
    const none = formatAuthorization(makeProof({ host, key, challenge: await challenge() }));
    const answer = await refused({ url: hub.url, authorization: none, tls: unbound });
    expect(answer).toMatchObject({ status: 401, message: expect.stringContaining('not bound') });
  });
});

describe('a renewed certificate', () => {
  it('is taken without a restart, and a broken one is not', async () => {
    await using first = await makeSelfSigned();
    await using second = await makeSelfSigned();
    await using hub = await startTestHub({ tlsCert: first.certPath, tlsKey: first.keyPath });
    await copyFile(second.certPath, first.certPath);
    expect(() => hub.hub.reloadTls()).toThrow('for TLS');
    (await connectTls(hub.url, first.cert)).destroy();
    await copyFile(second.keyPath, first.keyPath);
    hub.hub.reloadTls();
    (await connectTls(hub.url, second.cert)).destroy();
    await expect(connectTls(hub.url, first.cert)).rejects.toThrow('self-signed certificate');
  });
});

describe('a stranger', () => {
  it('that says nothing, or only half a request, is cut off', async () => {
    await using hub = await startTestHub({ handshakeTimeoutMs: 1_000 });
    const silent = await rawConnection(hub.url);
    const slow = await rawConnection(hub.url);
    slow.write('GET /agent HTTP/1.1\r\nhost: x\r\nx-slow: ');
    const cutOff = [silent, slow].map((socket) => once(socket.resume(), 'close'));
    expect(await Promise.all(cutOff)).toEqual([[false], [false]]);
  });

  it('that upgrades and then says no HELLO is cut off', async () => {
    await using hub = await startTestHub({ handshakeTimeoutMs: 1_000 });
    const { proof } = await enrolled(hub);
    const socket = await upgrade({ url: hub.url, authorization: await proof() }, (open) => open);
    if ('code' in socket) throw new Error(socket.message);
    const [code] = await once(socket, 'close');
    expect(code).toBe(1008);
    expect((await hub.post('host.get', { host: 'h1' })).body.result).toMatchObject({ connected: false });
  });

  it('can take up only so many connections', async () => {
    await using hub = await startTestHub({ maxUnauthenticated: 2 });
    await using _operator = await connectTestOperator(hub.url, hub.adminToken);
    const held = [await rawConnection(hub.url), await rawConnection(hub.url)];
    const third = await rawConnection(hub.url);
    third.resume().on('error', () => {});
    await once(third, 'close');
    for (const socket of held) socket.destroy();
    await expect
      .poll(
        async () =>
          await hub.post('hub.info').then(
            (answer) => answer.status,
            () => 0,
          ),
      )
      .toBe(200);
  });
});

describe('behind a proxy', () => {
  it('limits are per address that the proxy names, and nobody else can choose theirs', async () => {
    const clock = new FakeClock();
    const limits = { addressHandshakeBurst: 1, addressHandshakesPerSecond: 1 };
    await using hub = await startTestHub({ behindProxy: true, ...limits }, { clock });
    const ask = async (forwarded: string) =>
      (await fetch(`${hub.url}/agent/challenge`, { headers: { 'x-forwarded-for': forwarded } })).status;
    expect(await ask('9.9.9.9, 10.0.0.1')).toBe(200);
    const more = ['8.8.8.8', '7.7.7.7', '6.6.6.6', '5.5.5.5'].map((first) => ask(`${first}, 10.0.0.1`));
    // Three are held until their turn comes.
    expect(await Promise.race(more)).toBe(429);
    expect(await ask('10.0.0.2')).toBe(200);
    clock.advance(3000);
    expect((await Promise.all(more)).toSorted((a, b) => a - b)).toEqual([200, 200, 200, 429]);
  });
});

describe('a host that was enrolled', () => {
  it('connects again and again without a token', async () => {
    await using hub = await startTestHub();
    const { host, key } = await enrolled(hub);
    for (const epoch of [1, 2, 3]) {
      await using agent = await connectTestAgent({ url: hub.url, host, key });
      expect((await agent.line.ready).session.epoch).toBe(epoch);
    }
  });
});

async function overTls(url: string, ca: string, path: string, body?: object): Promise<{ status: number; body: unknown }> {
  const { request } = await import('node:https');
  const sent = request(url + path, { ca, agent: false, method: body === undefined ? 'GET' : 'POST' });
  sent.end(body === undefined ? undefined : JSON.stringify(body));
  const [response] = await once(sent, 'response');
  let text = '';
  for await (const chunk of response) text += String(chunk);
  return { status: response.statusCode, body: JSON.parse(text) };
}
