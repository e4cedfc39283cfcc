/** Tokens, challenges, admission and roles of the hub, on a store in memory and a clock by hand. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Admission } from '../../hub/auth/admission.ts';
import { CHALLENGE_TTL_MS, Challenges } from '../../hub/auth/challenges.ts';
import { enrol, HostRoom } from '../../hub/auth/enrolment.ts';
import { Pace } from '../../hub/auth/pace.ts';
import { requireRole } from '../../hub/auth/principal.ts';
import { TokenService } from '../../hub/auth/tokens.ts';
import { HOSTS, TOKENS } from '../../hub/store/records.ts';
import { openSqliteStore } from '../../hub/store/sqlite-store.ts';
import type { Store } from '../../hub/store/store.ts';
import { generateHostKey, type HostKey, sha256 } from '../../shared/node/host-key.ts';
import { type EnrolRequest, enrolProofBytes } from '../../shared/protocol/handshake.ts';

let store: Store;
let tokens: TokenService;
let nowMs = 0;
let revoked: string[] = [];

beforeEach(() => {
  store = openSqliteStore(':memory:');
  nowMs = Date.parse('2030-01-01T00:00:00Z');
  revoked = [];
  tokens = new TokenService({ store, now: () => nowMs, onRevoked: (id) => revoked.push(id) });
});

afterEach(async () => {
  await store.close();
});

const enrolToken = (options: { maxUses?: number; labels?: Record<string, string> } = {}) =>
  tokens.create({ kind: 'enrol', ttlMs: 60_000, maxUses: 1, labels: {}, description: '', ...options });
const operatorToken = (ttlMs?: number) =>
  tokens.create({ kind: 'operator', role: 'operator', description: 'ci', ...(ttlMs === undefined ? {} : { ttlMs }) });

function enrolRequest(key: HostKey, host: string, token: string): EnrolRequest {
  const proof = key.sign(enrolProofBytes({ publicKey: key.publicKey, tokenDigest: sha256(token), host }));
  return { token, host, publicKey: key.publicKey, labels: { site: 'lab' }, proof };
}

const enrolHere = (request: EnrolRequest) =>
  enrol(request, { store, tokens, hubId: 'hub', room: new HostRoom(store, 2), now: () => nowMs });

const code = (expected: string) => expect.objectContaining({ code: expected });

describe('tokens', () => {
  it('name their operator and keep no secret', async () => {
    const { token, record } = await operatorToken();
    expect(token).toMatch(/^flo_[0-9a-f]{16}_[A-Za-z0-9_-]{43}$/);
    expect(await tokens.authenticateOperator(token)).toMatchObject({ tokenId: record.id, role: 'operator', description: 'ci' });
    const secret = token.slice(-43);
    expect(JSON.stringify(await store.collection(TOKENS).list())).not.toContain(secret);
    expect(JSON.stringify(await tokens.list())).not.toContain(secret);
  });

  it('are refused when they are malformed, of another kind, unknown or with a wrong secret', async () => {
    const { token } = await operatorToken();
    const wrong = token.slice(0, -4) + (token.endsWith('AAAA') ? 'BBBB' : 'AAAA');
    const texts = ['', 'hello', wrong, token.replace('flo_', 'fle_'), `flo_${'0'.repeat(16)}_${'a'.repeat(43)}`];
    for (const text of texts) await expect(tokens.authenticateOperator(text)).rejects.toEqual(code('UNAUTHENTICATED'));
    const enrolment = await enrolToken();
    await expect(tokens.authenticateOperator(enrolment.token)).rejects.toEqual(code('UNAUTHENTICATED'));
  });

  it('are worthless once expired or revoked, and say so to their bearer', async () => {
    const short = await operatorToken(1000);
    nowMs += 1000;
    await expect(tokens.authenticateOperator(short.token)).rejects.toThrow('has expired');
    const other = await operatorToken();
    await tokens.revoke(other.record.id);
    expect(revoked).toEqual([other.record.id]);
    await expect(tokens.authenticateOperator(other.token)).rejects.toThrow('was revoked');
    await expect(tokens.revoke('nothing')).rejects.toEqual(code('NOT_FOUND'));
  });

  it('let in exactly as many as they say, however many try at once', async () => {
    const { record } = await enrolToken({ maxUses: 3 });
    const tries = await Promise.allSettled(Array.from({ length: 10 }, () => tokens.consumeEnrolToken(record.id)));
    expect(tries.filter((attempt) => attempt.status === 'fulfilled')).toHaveLength(3);
    expect((await tokens.list()).tokens[0]?.usesLeft).toBe(0);
  });

  it('of an administrator give way to a new one of the same description', async () => {
    const old = await tokens.create({ kind: 'operator', role: 'admin', description: 'up' });
    const other = await tokens.create({ kind: 'operator', role: 'admin', description: 'first administrator' });
    await tokens.discardAdmins('up');
    expect(revoked).toEqual([old.record.id]);
    expect((await tokens.list()).tokens.map((token) => token.id)).toEqual([other.record.id]);
  });

  it('are a thousand at most, of which those that are worthless make room', async () => {
    const made = await Promise.all(Array.from({ length: 1000 }, () => operatorToken()));
    await expect(operatorToken()).rejects.toEqual(code('LIMIT_EXCEEDED'));
    await tokens.revoke(made[0]?.record.id ?? '');
    await operatorToken();
  });

  it('disappear from the list a week after they expired', async () => {
    await enrolToken();
    nowMs += 8 * 24 * 3600_000;
    await operatorToken();
    expect((await tokens.list()).tokens.map((token) => token.kind)).toEqual(['operator']);
  });
});

describe('enrolment', () => {
  it('binds a key to a name, with the labels of the token over those of the host', async () => {
    const key = generateHostKey();
    const { token, record } = await enrolToken({ labels: { site: 'zurich' } });
    expect(await enrolHere(enrolRequest(key, 'h1', token))).toEqual({ host: 'h1', hubId: 'hub', tokenId: record.id });
    expect((await store.collection(HOSTS).get('h1'))?.value).toMatchObject({
      publicKey: key.publicKey,
      labels: { site: 'zurich' },
      epoch: 0,
    });
  });

  it('gives the same answer to the same key again, since the first may have been lost', async () => {
    const key = generateHostKey();
    const { token } = await enrolToken();
    const first = await enrolHere(enrolRequest(key, 'h1', token));
    expect(await enrolHere(enrolRequest(key, 'h1', token))).toEqual(first);
  });

  it('refuses another host with a used token', async () => {
    const { token } = await enrolToken();
    await enrolHere(enrolRequest(generateHostKey(), 'h1', token));
    const again = enrolHere(enrolRequest(generateHostKey(), 'h2', token));
    await expect(again).rejects.toThrow('is used up');
    await expect(again).rejects.toEqual(code('UNAUTHENTICATED'));
  });

  it('refuses another key for a taken name and leaves the token usable', async () => {
    await enrolHere(enrolRequest(generateHostKey(), 'h1', (await enrolToken()).token));
    const { token } = await enrolToken();
    await expect(enrolHere(enrolRequest(generateHostKey(), 'h1', token))).rejects.toEqual(code('CONFLICT'));
    await enrolHere(enrolRequest(generateHostKey(), 'h2', token));
  });

  it('refuses a key that the caller does not hold', async () => {
    const { token } = await enrolToken();
    const request = { ...enrolRequest(generateHostKey(), 'h1', token), publicKey: generateHostKey().publicKey };
    await expect(enrolHere(request)).rejects.toEqual(code('UNAUTHENTICATED'));
  });

  it('stops at the most hosts the hub may have', async () => {
    for (const host of ['h1', 'h2']) await enrolHere(enrolRequest(generateHostKey(), host, (await enrolToken()).token));
    const third = enrolRequest(generateHostKey(), 'h3', (await enrolToken()).token);
    await expect(enrolHere(third)).rejects.toEqual(code('LIMIT_EXCEEDED'));
  });
});

describe('challenges', () => {
  it('are good once', () => {
    const challenges = new Challenges({ maxOutstanding: 10, now: () => nowMs, elapsedMs: () => nowMs });
    const { nonce, expiresAt } = challenges.issue();
    expect(challenges.take(nonce, expiresAt)).toBe('fresh');
    expect(challenges.take(nonce, expiresAt)).toBe('unknown');
  });

  it('expire, and cannot be given a later expiry', () => {
    const challenges = new Challenges({ maxOutstanding: 10, now: () => nowMs, elapsedMs: () => nowMs });
    const [first, second] = [challenges.issue(), challenges.issue()];
    nowMs += CHALLENGE_TTL_MS;
    expect(challenges.take(first.nonce, first.expiresAt)).toBe('expired');
    expect(challenges.take(second.nonce, new Date(nowMs + 1).toISOString())).toBe('unknown');
  });

  it('are limited in number until old ones expire', () => {
    const challenges = new Challenges({ maxOutstanding: 2, now: () => nowMs, elapsedMs: () => nowMs });
    challenges.issue();
    challenges.issue();
    expect(() => challenges.issue()).toThrow(code('LIMIT_EXCEEDED'));
    nowMs += CHALLENGE_TTL_MS;
    expect(challenges.issue().nonce).toHaveLength(43);
  });

  it.each([
    ['forward', 3_600_000],
    ['back', -3_600_000],
  ])('live as long, and no longer, when the clock is set %s by an hour', (_, setMs) => {
    let elapsedMs = 0;
    const challenges = new Challenges({ maxOutstanding: 2, now: () => nowMs, elapsedMs: () => elapsedMs });
    const [first] = [challenges.issue(), challenges.issue()];
    nowMs += setMs;
    expect(challenges.take(first.nonce, first.expiresAt)).toBe('fresh');
    challenges.issue();
    elapsedMs += CHALLENGE_TTL_MS;
    const { nonce, expiresAt } = challenges.issue();
    elapsedMs += CHALLENGE_TTL_MS;
    expect(challenges.take(nonce, expiresAt)).toBe('expired');
  });
});

describe('admission', () => {
  const admission = (perAddress: number, global: number, pace = { perSecond: 1, isBehind: false }) =>
    new Admission({
      pace,
      burst: global,
      perAddress: { perSecond: 1, burst: perAddress },
      now: () => nowMs,
      random: () => 0,
    });

  it('lets a burst through, then says how long to wait', () => {
    const gate = admission(2, 100);
    expect([gate.take('10.0.0.1'), gate.take('::ffff:10.0.0.1')]).toEqual([0, 0]);
    expect(gate.take('10.0.0.1')).toBe(1000);
    expect(gate.take('10.0.0.2')).toBe(0);
    nowMs += 1000;
    expect(gate.take('10.0.0.1')).toBe(0);
  });

  it('counts one IPv6 network as one', () => {
    const gate = admission(1, 100);
    expect(gate.take('2001:db8::1')).toBe(0);
    expect(gate.take('2001:db8:0:0:ffff::9')).toBeGreaterThan(0);
    expect(gate.take('2001:db8:0:1::1')).toBe(0);
  });

  it('has a limit over all addresses', () => {
    const gate = admission(10, 1);
    expect(gate.take('10.0.0.1')).toBe(0);
    expect(gate.take('10.0.0.2')).toBeGreaterThan(0);
  });

  it('gives each that it turns away a turn of its own, and none too far ahead', () => {
    const gate = admission(100, 1);
    expect(gate.take('10.0.0.1')).toBe(0);
    expect(['2', '3', '4'].map((host) => gate.take(`10.0.0.${host}`))).toEqual([1000, 2000, 3000]);
    const waits = Array.from({ length: 50 }, (_, index) => gate.take(`10.0.1.${index}`));
    expect(Math.max(...waits)).toBeLessThanOrEqual(10_000);
  });

  it('of a hub that is behind lets in no burst, and follows its pace', () => {
    const pace = { perSecond: 2, isBehind: true };
    const gate = admission(100, 20, pace);
    expect([1, 2, 3].map((host) => gate.take(`10.0.0.${host}`) === 0)).toEqual([true, false, false]);
    nowMs += 500;
    expect(gate.take('10.0.0.9')).toBe(0);
    pace.isBehind = false;
    nowMs += 10_000;
    expect(Array.from({ length: 20 }, (_, host) => gate.take(`10.0.0.${host}`)).every((wait) => wait === 0)).toBe(true);
  });

  it('is as fast as the hub keeps up with, between a floor and a ceiling', () => {
    let lagMs = 0;
    const pace = new Pace({ floorPerSecond: 10, ceilingPerSecond: 100, targetLagMs: 50, lagMs: () => lagMs, now: () => nowMs });
    const after = (ms: number): number => {
      nowMs += ms;
      return pace.perSecond;
    };
    expect(after(200)).toBe(100);
    lagMs = 60;
    expect([after(200), after(100), after(100)]).toEqual([75, 75, 56.25]);
    for (let step = 0; step < 50; step++) after(200);
    expect(pace.perSecond).toBe(10);
    lagMs = 50;
    expect([after(1000), after(2000), after(60_000)]).toEqual([35, 85, 100]);
  });
});

describe('roles', () => {
  const principal = { tokenId: 't', role: 'operator', description: '', expiresAtMs: 5 } as const;

  it('rank viewer below operator below admin', () => {
    requireRole(principal, 'viewer', 'vm.get', 0);
    requireRole(principal, 'operator', 'vm.start', 0);
    expect(() => requireRole(principal, 'admin', 'token.list', 0)).toThrow(code('PERMISSION_DENIED'));
  });

  it('end with the token, even on an open session', () => {
    expect(() => requireRole(principal, 'viewer', 'vm.get', 5)).toThrow(code('UNAUTHENTICATED'));
  });
});
