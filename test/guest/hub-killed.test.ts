/**
 * A hub that is killed under load, again and again, with two real agents and real guests among fifty simulated hosts: streams go on, each
 * command happens once, a rollout ends as if nothing had been, and every event is told.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { createAgent } from '../../agent/agent.ts';
import { parseAgentConfig } from '../../agent/config.ts';
import { SimFleet } from '../../agent/sim/crew.ts';
import { SimScript } from '../../agent/sim/script.ts';
import { specFromFlags } from '../../cli/vm-spec-flags.ts';
import type { JsonObject } from '../../shared/errors.ts';
import { parseWith } from '../../shared/protocol/parse-with.ts';
import type { HubProcess } from '../support/hub-process.ts';
import { startSplitFleet } from '../support/split-fleet.ts';
import { postRpc } from '../support/test-hub.ts';
import { whyNoGuest } from '../support/up.ts';
import { silent } from '../support/vm.ts';

const ENTRY = fileURLToPath(new URL('../../bin/fairlead.js', import.meta.url));
const SIMULATED = 50;
const KILLS = 2;
const COMMANDS_A_HOST = 2;
const PATIENCE_MS = 120_000;
const MIB = 1024 ** 2;
const reason = whyNoGuest();
if (reason !== undefined) console.log(`skipped: ${reason}`);

/** Calls until there is an answer, as a script does whose hub comes and goes. @throws Error with the code of what the hub refuses */
async function persistently(hub: HubProcess, method: string, params: object): Promise<JsonObject> {
  const body = { jsonrpc: '2.0', id: 1, method, params };
  const endMs = performance.now() + PATIENCE_MS;
  for (;;) {
    try {
      const { body: answer } = await postRpc(hub.url, await hub.adminToken(), body);
      // SAFETY: it came out of JSON.parse.
      if (answer.error === undefined) return answer.result as JsonObject;
      const code = String(answer.error.data['code']);
      if (code !== 'INTERRUPTED' && code !== 'TIMEOUT') throw new Refused(`${code}: ${answer.error.message}`);
    } catch (error) {
      if (error instanceof Refused || performance.now() > endMs) throw error;
    }
    await sleep(250);
  }
}

class Refused extends Error {}

async function startRealAgent(scope: AsyncDisposableStack, hub: HubProcess, host: string, token: string): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'fl-killed-'));
  scope.defer(() => rm(directory, { recursive: true, force: true }));
  const config = parseAgentConfig({
    hub: hub.url,
    host,
    token,
    stateDir: join(directory, 'agent'),
    runDir: join(directory, 'run'),
    httpListen: 'off',
    vsock: 'off',
    imageRoots: ['/'],
    maxBackoff: 100,
    drainTimeout: 0,
  });
  const agent = scope.use(createAgent({ config, logger: silent, searchPath: process.env['PATH'] ?? '' }));
  await agent.start();
}

describe.skipIf(reason !== undefined)('a hub that is killed under load', () => {
  it('loses nothing: streams, commands, a rollout and events go on', { timeout: 240_000 }, async () => {
    await using scope = new AsyncDisposableStack();
    const fleet = scope.use(await startSplitFleet({ guest: true, lasting: true }));
    const { hub } = fleet;
    const call = (method: string, params: object) => persistently(hub, method, params);
    const enrol = await call('token.create', { kind: 'enrol', maxUses: SIMULATED + 1 });
    const token = enrol['token'] as string;
    await startRealAgent(scope, hub, 'edge-2', token);
    const directory = await mkdtemp(join(tmpdir(), 'fl-killed-sim-'));
    scope.defer(() => rm(directory, { recursive: true, force: true }));
    const simulated = scope.use(
      await SimFleet.start({
        hosts: SIMULATED,
        processes: 1,
        prefix: 'sim',
        access: { hub: hub.url.replace('http', 'ws'), token, insecure: false, maxBackoff: '500ms' },
        script: parseWith(SimScript, { operation: { min: 20, max: 200 } }, 'script'),
        directory,
        entry: ENTRY,
      }),
    );
    await simulated.until(({ up }) => up === SIMULATED, AbortSignal.timeout(PATIENCE_MS));
    const names = Array.from({ length: SIMULATED }, (_, index) => `sim-${String(index + 1).padStart(5, '0')}`);

    // A VM that is made twice is a conflict: a command that happened twice would end with one.
    const commands = [...names, 'edge-2'].flatMap((host) =>
      Array.from({ length: COMMANDS_A_HOST }, (_, index) => ({ host, id: `${host}.job-${index}`, name: `job-${index}` })),
    );
    const { boot } = await specFromFlags('job', {});
    const submitting = Promise.all(
      commands.map(async ({ host, id, name }, index) => {
        await sleep((index % 20) * 150);
        const spec = host === 'edge-2' ? { name, boot } : { name };
        await call('command.submit', { method: 'vm.create', params: { spec }, host, id });
        return await call('command.wait', { id });
      }),
    );
    await call('rollout.start', {
      rollout: 'through-it-all',
      spec: {
        selector: { hosts: names },
        steps: [{ kind: 'vm', vms: { names: ['vm-1'] }, patch: { cpus: { count: 2 } } }],
        maxInFlight: 8,
        budget: { maxUnavailable: '50%', perZone: '50%' },
        zones: { order: 'concurrent', maxInFlight: 3 },
      },
    });
    const echoing = Promise.all(Array.from({ length: 3 }, () => fleet.echo(2 * MIB)));

    for (let kill = 0; kill < KILLS; kill++) {
      await sleep(1000 + Math.random() * 500);
      await hub.end('SIGKILL');
      await hub.start();
      // Streams wait for their line for a minute, which on a busy machine is no longer than a few starts of a hub.
      const back = { hostsConnected: SIMULATED + 2, operatorsConnected: 1 };
      await expect.poll(() => call('hub.info', {}), { timeout: PATIENCE_MS, interval: 250 }).toMatchObject(back);
    }

    expect(await echoing).toHaveLength(3);
    const ended = await submitting;
    expect(ended.filter(({ state }) => state !== 'done')).toEqual([]);
    await expect
      .poll(async () => (await call('rollout.get', { rollout: 'through-it-all' }))['status'], {
        timeout: PATIENCE_MS,
        interval: 500,
      })
      .toBe('completed');
    expect(await call('rollout.get', { rollout: 'through-it-all' })).toMatchObject({ phases: { done: SIMULATED }, failures: {} });

    // What the hub knows is what the hosts have, and each VM's making was told once.
    for (const host of ['sim-00001', `sim-000${SIMULATED}`, 'edge-2']) {
      const own = (await call('vm.list', { host }))['vms'] as readonly { readonly name: string }[];
      expect(own.filter(({ name }) => name.startsWith('job-'))).toHaveLength(COMMANDS_A_HOST);
    }
    await expect
      .poll(async () => (await call('vm.find', { vm: 'job-0' }))['vms'], { timeout: PATIENCE_MS })
      .toHaveLength(SIMULATED + 1);
    const made = new Map<string, number>();
    for (let since = 0; ; ) {
      const page = await call('event.list', { since, limit: 1000, types: ['vm.created'] });
      const events = page['events'] as readonly { readonly host: string; readonly vm: string }[];
      for (const { host, vm } of events) made.set(`${host}/${vm}`, (made.get(`${host}/${vm}`) ?? 0) + 1);
      if (events.length === 0) break;
      since = Number(page['lastSeq']);
    }
    expect(commands.filter(({ host, name }) => made.get(`${host}/${name}`) !== 1)).toEqual([]);
  });
});
