/** A hub in a process of its own that is killed in the middle of a rollout, again and again, over real agents with real journals. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { HubProcess } from '../support/hub-process.ts';
import { type PlayedHost, startPlayedHost } from '../support/played-host.ts';
import { postRpc } from '../support/test-hub.ts';

// Hosts of this test are back within moments.
process.env['FAIRLEAD_HUB_ROLLOUT_SETTLE_MS'] = '1500';

const HOSTS = 12;
const KILLS = 3;
const MIB = 1024 ** 2;

describe('a hub that is killed in the middle of a rollout', () => {
  it('goes on with it when it is started again: every VM is changed, and no command ran twice', async () => {
    await using scope = new AsyncDisposableStack();
    const directory = await mkdtemp(join(tmpdir(), 'rollout-'));
    scope.defer(() => rm(directory, { recursive: true, force: true }));
    const hub = scope.use(await HubProcess.start());
    const admin = await hub.adminToken();
    const call = async (method: string, params: object) => {
      const { body } = await postRpc(hub.url, admin, { jsonrpc: '2.0', id: 1, method, params });
      if (body.error !== undefined) throw new Error(body.error.message);
      return body.result ?? {};
    };
    const hosts: PlayedHost[] = [];
    for (let index = 0; index < HOSTS; index++) {
      const token = await hub.enrolToken();
      hosts.push(scope.use(await startPlayedHost(hub.url, `a${index}`, { directory, token, tookMs: 40 })));
    }
    const connected = async () => (await call('hub.info', {}))['hostsConnected'];
    await expect.poll(connected, { timeout: 20_000 }).toBe(HOSTS);

    const spec = {
      selector: {},
      steps: [{ kind: 'vm', patch: { memory: { bytes: 64 * MIB } } }],
      maxInFlight: 3,
      budget: { maxUnavailable: 4, perZone: 4 },
    };
    await call('rollout.start', { rollout: 'r1', spec });
    const changed = () => hosts.filter(({ vms }) => vms.get('vm-1').spec.memory.bytes === 64 * MIB).length;
    for (let kill = 1; kill <= KILLS; kill++) {
      await expect.poll(changed, { timeout: 30_000, interval: 5 }).toBeGreaterThanOrEqual(kill * 2);
      await hub.end('SIGKILL');
      await hub.start();
    }
    const status = async () => (await call('rollout.get', { rollout: 'r1' }))['status'];
    await expect.poll(status, { timeout: 40_000 }).toBe('completed');
    expect(changed()).toBe(HOSTS);
    for (const { name, vms } of hosts) {
      expect(vms.get('vm-1').state).toBe('running');
      const { operations } = await call('op.list', { host: name });
      // SAFETY: rows of `op.list`.
      const rows = operations as { method: string; state: string }[];
      expect(rows.map(({ method, state }) => `${method} ${state}`).toSorted()).toEqual([
        'vm.redefine done',
        'vm.start done',
        'vm.stop done',
      ]);
    }
  });
});
