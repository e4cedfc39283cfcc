/** Weakness 15: a restart of the daemon's service killed every VM, and QEMU ran without a sandbox. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ROOT } from '../support/sources.ts';
import { spec, testHost, whyNoQemu } from '../support/vm.ts';

const missing = whyNoQemu();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

test('the unit of the agent ends the agent alone', () => {
  const unit = readFileSync(join(ROOT, 'packaging/systemd/fairlead-agent.service'), 'utf8').split('\n');
  expect(unit).toContain('KillMode=process');
  expect(unit).toContain('RuntimeDirectoryPreserve=yes');
});

test.skipIf(missing !== undefined)(
  'QEMU is in a session of its own, where no signal to the group of its agent comes',
  async () => {
    await using host = await testHost();
    const { pid = 0 } = await host.manager.run(spec({ name: 'web' }));
    const [, group, session] = statOf(pid);
    expect({ group: Number(group), session: Number(session) }).toEqual({ group: pid, session: pid });
  },
);

test.skipIf(missing !== undefined)('QEMU runs under a filter of system calls and can gain no privileges', async () => {
  await using host = await testHost();
  const { pid = 0 } = await host.manager.run(spec({ name: 'web' }));
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  expect(status).toMatch(/^Seccomp:\t2$/m);
  expect(status).toMatch(/^NoNewPrivs:\t1$/m);
});

/** Parent, process group and session: proc(5), fields 4 to 6. */
function statOf(pid: number): string[] {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return stat.slice(stat.lastIndexOf(')') + 4).split(' ');
}
