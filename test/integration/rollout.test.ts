/** Rollouts end to end: command line, real hub, real agents with their journals and fences, VMs that are played. */
import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import type { JsonObject } from '../../shared/errors.ts';
import { startPlayedHost } from '../support/played-host.ts';
import { startTestHub } from '../support/test-hub.ts';

const ENTRY = fileURLToPath(new URL('../../bin/fairlead.ts', import.meta.url));
const FAST = { budget: { maxUnavailable: '100%', perZone: '100%' }, zones: { order: 'concurrent' } };
const MIB = 1024 ** 2;

async function startRolloutFleet(names: readonly string[]) {
  await using scope = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), 'rollout-'));
  scope.defer(() => rm(directory, { recursive: true, force: true }));
  const hub = scope.use(await startTestHub());
  const token = await hub.hub.bootstrap.enrolToken({ maxUses: names.length });
  const hosts = await Promise.all(names.map((name) => startPlayedHost(hub.url, name, { directory, token })));
  for (const host of hosts) scope.use(host);
  await Promise.all(names.map((name) => hub.logged(`host ${name} connected`)));
  const all = scope.move();
  const call = async (method: string, params: object): Promise<JsonObject> => {
    const { body } = await hub.post(method, params);
    if (body.error !== undefined) throw new Error(`${String(body.error.data['code'])}: ${body.error.message}`);
    // SAFETY: it came out of JSON.parse.
    return body.result as JsonObject;
  };
  const cli = async (args: readonly string[], input = ''): Promise<{ code: number | null; stdout: string; stderr: string }> => {
    const child = spawn(process.execPath, [ENTRY, '--hub', hub.url, '--token', hub.adminToken, 'rollout', ...args], {
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    child.stdin.end(input);
    const [stdout, stderr, code] = await Promise.all([
      text(child.stdout),
      text(child.stderr),
      new Promise<number | null>((resolve) => child.on('close', resolve)),
    ]);
    return { code, stdout, stderr };
  };
  return { hub, hosts, call, cli, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

const statusOf = (fleet: { call: (method: string, params: object) => Promise<JsonObject> }, rollout: string) =>
  expect.poll(async () => (await fleet.call('rollout.get', { rollout }))['status'], { timeout: 30_000 });

describe('a rollout through hub and agents', () => {
  it('gives every VM its new spec, and takes all back again', async () => {
    await using fleet = await startRolloutFleet(['a1', 'a2', 'b1']);
    const memoryOf = () => fleet.hosts.map(({ vms }) => vms.get('vm-1').spec.memory.bytes / MIB);
    const spec = {
      ...FAST,
      selector: {},
      steps: [{ kind: 'vm', patch: { memory: { bytes: 64 * MIB } } }],
      health: { checks: [{ kind: 'vm-state' }] },
    };
    await fleet.call('rollout.start', { rollout: 'r1', spec });
    await statusOf(fleet, 'r1').toBe('completed');
    expect(memoryOf()).toEqual([64, 64, 64]);
    expect(fleet.hosts.map(({ vms }) => vms.get('vm-1').state)).toEqual(['running', 'running', 'running']);

    await fleet.call('rollout.rollback', { rollout: 'r1', reason: 'too small' });
    await statusOf(fleet, 'r1').toBe('rolled-back');
    expect(memoryOf()).toEqual([256, 256, 256]);
    // Each host remembers who drove it, and in its journal is each command once.
    const { fences } = JSON.parse(await readFile(join(fleet.hosts[0]?.stateDir ?? '', 'fences.json'), 'utf8'));
    expect(fences).toEqual([{ scope: 'rollout/r1', epoch: 2 }]);
    const { operations } = await fleet.call('op.list', { host: 'a1' });
    // SAFETY: rows of `op.list`.
    const rows = operations as { method: string; actor: string }[];
    expect(rows.map(({ method }) => method).toSorted()).toEqual([
      'vm.redefine',
      'vm.redefine',
      'vm.start',
      'vm.start',
      'vm.stop',
      'vm.stop',
    ]);
    expect(new Set(rows.map(({ actor }) => actor))).toEqual(new Set(['rollout r1']));
  });

  it('stops at the first host that refuses, and says why', async () => {
    await using fleet = await startRolloutFleet(['a1', 'a2']);
    const spec = { ...FAST, selector: {}, steps: [{ kind: 'vm', patch: { memory: { bytes: 'a lot' } } }] };
    await fleet.call('rollout.start', { rollout: 'r1', spec });
    await statusOf(fleet, 'r1').toBe('paused');
    const { hosts } = await fleet.call('rollout.hosts', { rollout: 'r1', phase: 'failed' });
    expect(hosts).toMatchObject([{ failure: { class: 'rejected', error: expect.stringContaining('INVALID_PARAMS') } }]);
  });

  it('is planned, started, watched and ordered about from the command line', async () => {
    await using fleet = await startRolloutFleet(['a1', 'b1']);
    const file = JSON.stringify({ ...FAST, selector: { labels: {} }, steps: [{ kind: 'vm' }], approval: 'anyone' });
    const plan = await fleet.cli(['plan', '-f', '-', '--id', 'r1'], file);
    expect(plan.stdout).toMatch(/hosts +2\n[^]*zone a +1 hosts, 1 away at worst/);
    const digest = /hosts digest +(\S+)/.exec(plan.stdout)?.[1] ?? '';

    const refused = await fleet.cli(['start', '-f', '-', '--id', 'r1', '--planned', 'x'.repeat(64)], file);
    expect([refused.code, refused.stderr]).toEqual([4, expect.stringContaining('plan it again')]);
    const started = await fleet.cli(['start', '-f', '-', '--id', 'r1', '--planned', digest], file);
    expect(started.stdout).toContain('awaiting-approval');
    const watched = fleet.cli(['watch', 'r1']);
    await fleet.cli(['approve', 'r1', '--reason', 'fine']);
    const { code, stdout } = await watched;
    expect(code).toBe(0);
    expect(stdout).toMatch(/host-done[^]*ended {2}outcome=completed[^]*r1 {2}completed/);
    expect((await fleet.cli(['ls'])).stdout).toMatch(/r1 +- +completed +2/);
    expect((await fleet.cli(['pause', 'r1'])).code).toBe(4);
    expect((await fleet.cli(['abort', 'r1'])).code).toBe(0);
  });
});
