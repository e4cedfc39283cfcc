/**
 * A whole minute of standing still: a process that writes the store, a hub in the middle of a rollout, an agent that is given commands. Longer
 * than any line lives without a word; test/integration/hub-time-faults.test.ts has two seconds of the first.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { HubProcess } from '../support/hub-process.ts';
import { type PlayedHost, startPlayedHost } from '../support/played-host.ts';
import { stopWriterFor } from '../support/stopped-writer.ts';
import { postRpc } from '../support/test-hub.ts';
import { spec, whyNoQemu } from '../support/vm.ts';

const ENTRY = fileURLToPath(new URL('../../bin/fairlead.js', import.meta.url));
const STOPPED_MS = 60_000;
const PATIENCE_MS = 120_000;
const HOSTS = 12;
const MIB = 1024 ** 2;
const missing = whyNoQemu();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

async function caller(hub: HubProcess) {
  const admin = await hub.adminToken();
  return async (method: string, params: object) => {
    const { body } = await postRpc(hub.url, admin, { jsonrpc: '2.0', id: 1, method, params });
    if (body.error !== undefined) throw new Error(`${String(body.error.data['code'])}: ${body.error.message}`);
    return body.result ?? {};
  };
}

/** What the host's own journal has: method, state and how often it was begun. */
async function journalOf(call: Awaited<ReturnType<typeof caller>>, host: string): Promise<string[]> {
  const { operations } = await call('op.list', { host });
  // SAFETY: rows of `op.list`.
  const rows = operations as { method: string; state: string }[];
  return rows.map(({ method, state }) => `${method} ${state}`).toSorted();
}

it('a process that writes the store and is stopped for 60 s goes on, and has each acknowledged write once', async () => {
  const { acknowledged, failed, notOnce } = await stopWriterFor(STOPPED_MS);
  expect([failed, notOnce]).toEqual([0, []]);
  expect(acknowledged).toBeGreaterThan(300);
});

describe('a hub that is stopped for 60 s', () => {
  it('has its hosts back, ends its commands, and goes on with its rollout: each host changed once', {
    timeout: 300_000,
  }, async () => {
    await using scope = new AsyncDisposableStack();
    const directory = await mkdtemp(join(tmpdir(), 'stopped-'));
    scope.defer(() => rm(directory, { recursive: true, force: true }));
    const hub = scope.use(await HubProcess.start());
    const call = await caller(hub);
    const hosts: PlayedHost[] = [];
    for (let index = 0; index < HOSTS; index++) {
      const access = { directory, token: await hub.enrolToken(), tookMs: 300 };
      hosts.push(scope.use(await startPlayedHost(hub.url, `a${index}`, access)));
    }
    const connected = async () => (await call('hub.info', {}))['hostsConnected'];
    await expect.poll(connected, { timeout: PATIENCE_MS }).toBe(HOSTS);
    const steps = [{ kind: 'vm', vms: { names: ['vm-1'] }, patch: { memory: { bytes: 64 * MIB } } }];
    const budget = { maxUnavailable: '50%', perZone: '50%' };
    await call('rollout.start', { rollout: 'r1', spec: { selector: {}, steps, maxInFlight: 3, budget } });
    const changed = () => hosts.filter(({ vms }) => vms.get('vm-1').spec.memory.bytes === 64 * MIB).length;
    await expect.poll(changed, { timeout: PATIENCE_MS, interval: 5 }).toBeGreaterThan(1);
    for (const { name } of hosts)
      await call('command.submit', { method: 'vm.create', params: { spec: { name: 'job' } }, host: name, id: `${name}.job` });

    hub.signal('SIGSTOP');
    await sleep(STOPPED_MS);
    const changedMeanwhile = changed();
    hub.signal('SIGCONT');

    for (const { name } of hosts) expect(await call('command.wait', { id: `${name}.job` })).toMatchObject({ state: 'done' });
    await expect.poll(connected, { timeout: PATIENCE_MS }).toBe(HOSTS);
    const status = async () => (await call('rollout.get', { rollout: 'r1' }))['status'];
    await expect.poll(status, { timeout: PATIENCE_MS }).toBe('completed');
    expect(changedMeanwhile).toBeLessThan(HOSTS);
    expect(changed()).toBe(HOSTS);
    for (const { name } of hosts)
      expect(await journalOf(call, name)).toEqual(['vm.create done', 'vm.redefine done', 'vm.start done', 'vm.stop done']);
  });
});

describe.skipIf(missing !== undefined)('an agent that is stopped for 60 s', () => {
  it('is missed, and has run what it was given meanwhile once; its VM does not notice', { timeout: 300_000 }, async () => {
    await using scope = new AsyncDisposableStack();
    const directory = await mkdtemp(join(tmpdir(), 'stopped-'));
    scope.defer(() => rm(directory, { recursive: true, force: true }));
    const hub = scope.use(await HubProcess.start());
    const call = await caller(hub);
    const where = ['--state-dir', join(directory, 'state'), '--run-dir', join(directory, 'run')];
    const access = ['--hub', hub.url.replace('http', 'ws'), '--host', 'edge-1', '--token', await hub.enrolToken()];
    const limits = ['--http-listen', 'off', '--vsock', 'off', '--max-backoff', '500ms', '--log-level', 'warn'];
    const agent = spawn(process.execPath, [ENTRY, 'agent', ...access, ...where, ...limits], { stdio: 'ignore' });
    const ended = once(agent, 'exit');
    scope.defer(async () => {
      agent.kill('SIGKILL');
      await ended;
    });
    const isConnected = async () => (await call('host.get', { host: 'edge-1' }).catch(() => ({ connected: false })))['connected'];
    await expect.poll(isConnected, { timeout: PATIENCE_MS }).toBe(true);
    await call('vm.run', { host: 'edge-1', spec: spec({ name: 'web' }) });
    scope.defer(async () => void (await call('vm.delete', { host: 'edge-1', vm: 'web', force: true })));
    const before = await call('vm.get', { host: 'edge-1', vm: 'web' });

    agent.kill('SIGSTOP');
    const submit = (id: string) =>
      call('command.submit', { method: 'vm.create', params: { spec: spec({ name: id }) }, host: 'edge-1', id });
    // On a line that nobody has missed yet, and on none.
    await submit('early');
    const standing = sleep(STOPPED_MS);
    await expect.poll(isConnected, { timeout: STOPPED_MS, interval: 500 }).toBe(false);
    await submit('late');
    await standing;
    agent.kill('SIGCONT');

    for (const id of ['early', 'late']) expect(await call('command.wait', { id })).toMatchObject({ state: 'done' });
    await expect.poll(isConnected, { timeout: PATIENCE_MS }).toBe(true);
    expect(await journalOf(call, 'edge-1')).toEqual(['vm.create done', 'vm.create done', 'vm.run done']);
    const { state, pid, generation } = await call('vm.get', { host: 'edge-1', vm: 'web' });
    expect({ state, pid, generation }).toEqual({ state: 'running', pid: before['pid'], generation: before['generation'] });
  });
});
