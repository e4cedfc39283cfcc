/** An agent that is killed half-way through a start or a stop, and what the next one makes of it. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import type { Failpoint } from '../../agent/failpoint.ts';
import { identityOf } from '../../agent/process-identity.ts';
import { artefacts } from '../../cli/image/cache.ts';
import { type ManagerProcess, startManager } from '../support/manager-process.ts';
import type { ManagerSettings } from '../support/programs/vm-manager.ts';
import { spec, testHost, whyNoQemu } from '../support/vm.ts';

const { vhostDeviceVsock: vsockDaemon } = artefacts();
const missing = whyNoQemu() ?? (vsockDaemon === undefined ? 'no vhost-device-vsock: npm run setup' : undefined);
if (missing !== undefined) console.warn(`skipped: ${missing}`);

/** Pids of all programs with this text in their arguments. */
function programsWith(text: string): number[] {
  const pids = readdirSync('/proc').filter((entry) => /^\d+$/.test(entry));
  return pids.map(Number).filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(text) && identityOf(pid) !== undefined;
    } catch {
      return false;
    }
  });
}

/** An agent that comes to the failpoint by the command and is killed there, and the next one. */
async function whileKilledAt(
  failpoint: Failpoint,
  command: (agent: ManagerProcess) => Promise<unknown>,
  check: (agent: ManagerProcess, settings: ManagerSettings) => Promise<void>,
): Promise<void> {
  await using host = await testHost();
  const { vsock: _, logger: __, observer: ___, ...rest } = host.options;
  const settings = { ...rest, vsockDaemon };
  await host.manager.close();
  {
    await using agent = await startManager(settings, failpoint);
    command(agent).catch(() => {});
    await agent.atFailpoint;
  }
  await using agent = await startManager(settings);
  try {
    await check(agent, settings);
  } finally {
    await agent.call('delete', 'web');
    expect(programsWith(`${settings.runDir}/web`)).toEqual([]);
    expect(readdirSync(settings.runDir)).toEqual([]);
  }
}

const web = spec({ name: 'web', vsock: {} });

/** Every other step is walked with the operation record; these are those that leave processes in no record. */
describe.skipIf(missing !== undefined)('an agent that is killed', () => {
  test('when QEMU and its vsock daemon are in no record leaves neither, and a start that never was', async () => {
    await whileKilledAt(
      'start.spawned',
      (agent) => agent.call('run', web),
      async (agent, { runDir }) => {
        expect(await agent.call('list')).toMatchObject([{ state: 'stopped', exit: { reason: 'start-failed' } }]);
        expect(programsWith(`${runDir}/web`)).toEqual([]);
        expect(existsSync(`${runDir}/web`)).toBe(false);
        expect(await agent.call('start', 'web')).toMatchObject({ state: 'running' });
      },
    );
  });

  test('when the guest runs and the record does not say so leaves a VM that runs, and says so', async () => {
    await whileKilledAt(
      'start.resumed',
      (agent) => agent.call('run', web),
      async (agent) => {
        expect(await agent.call('list')).toMatchObject([{ state: 'running', generation: 1, vsock: { cid: 3 } }]);
        expect((await agent.call('events')).events.map(({ type }) => type)).toEqual(['vm.created', 'vm.started']);
        expect(await agent.call('pause', 'web')).toMatchObject({ state: 'paused' });
      },
    );
  });

  test('when a stop has begun has it finished by the next one', async () => {
    await whileKilledAt(
      'stop.recorded',
      async (agent) => {
        await agent.call('run', web);
        await agent.call('stop', 'web', 0);
      },
      async (agent) => {
        await expect.poll(async () => (await agent.call('list'))[0]?.state, { timeout: 60_000 }).toBe('stopped');
        expect(await agent.call('stop', 'web', 0)).toMatchObject({ endedBy: 'already-stopped' });
        const types = (await agent.call('events')).events.map(({ type }) => type);
        expect(types).toEqual(['vm.created', 'vm.started', 'vm.stopping', 'vm.stopped']);
        expect(await agent.call('list')).toMatchObject([{ exit: { reason: 'host-qmp-quit' } }]);
      },
    );
  });
});
