/** Weakness 17: each start emptied the log of the guest's console, and rotation by another program left holes of NUL in it. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { bootSectorVm } from '../support/boot-sector.ts';
import { testHost, whyNoQemu } from '../support/vm.ts';

const missing = whyNoQemu();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

test.skipIf(missing !== undefined)(
  'what a guest said before a restart is still in its log, and the log has no hole',
  async () => {
    await using host = await testHost();
    const { manager } = host;
    const log = join(host.options.stateDir, 'vms', 'web', 'logs', 'console.log');
    const said = (text: string) => expect.poll(() => readFile(log, 'utf8'), { timeout: 60_000 }).toContain(text);

    await manager.run(await bootSectorVm(host, { name: 'web' }, { says: 'first life\n' }));
    await said('first life');
    await manager.stop('web', { graceMs: 0 });
    await bootSectorVm(host, { name: 'web' }, { says: 'second life\n' });
    await manager.start('web');
    await said('second life');
    const text = await readFile(log, 'utf8');
    expect(text).toMatch(/first life\s[^]*second life\s/);
    expect(text).not.toContain('\0');
  },
);
