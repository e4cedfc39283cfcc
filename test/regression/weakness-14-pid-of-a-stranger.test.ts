/** Weakness 14: a stored pid was killed when its VM was deleted, whatever process had it by then. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { identityOf } from '../../agent/process-identity.ts';
import { spec, testHost, whyNoQemu } from '../support/vm.ts';

const missing = whyNoQemu();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

/** Each has the pid, and one thing more that the agent looks at. */
const STRANGERS = [
  { what: 'the uuid of the VM in its arguments', hasUuid: true, hasStartTime: false },
  { what: 'its very start time', hasUuid: false, hasStartTime: true },
];

test.skipIf(missing !== undefined).each(STRANGERS)(
  'a process that has the pid of a VM and $what gets no signal',
  async ({ hasUuid, hasStartTime }) => {
    await using host = await testHost();
    const { pid = 0, uuid } = await host.manager.run(spec({ name: 'web' }));
    await host.manager.close();
    process.kill(pid, 'SIGKILL');
    await expect.poll(() => identityOf(pid)).toBeUndefined();

    const stranger = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1e6)', '--', ...(hasUuid ? ['-uuid', uuid] : [])], {
      stdio: 'ignore',
    });
    await once(stranger, 'spawn');
    const exited = once(stranger, 'exit');
    try {
      const path = join(host.options.stateDir, 'vms', 'web', 'vm.json');
      const record = JSON.parse(await readFile(path, 'utf8'));
      const identity = identityOf(stranger.pid ?? 0);
      const startTime = hasStartTime ? identity?.startTime : record.process.startTime;
      await writeFile(path, JSON.stringify({ ...record, process: { ...record.process, pid: stranger.pid, startTime } }));

      const manager = await host.restart();
      expect(manager.get('web')).toMatchObject({ state: 'crashed' });
      await manager.delete('web', { force: true });
      expect(identityOf(stranger.pid ?? 0)).toEqual(identity);
    } finally {
      stranger.kill();
      await exited;
    }
  },
);
