/** Weakness 11: the RAM of guests lay in files that every user of the host could read. (What is kept of a snapshot: the tests of those.) */
import { lstatSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { bootSectorVm } from '../support/boot-sector.ts';
import { testHost, whyNoQemu } from '../support/vm.ts';

const missing = whyNoQemu();
if (missing !== undefined) console.warn(`skipped: ${missing}`);
const OTHERS = 0o077;

test.skipIf(missing !== undefined)(
  'nothing of a running VM is readable by others: neither RAM nor logs nor sockets',
  async () => {
    await using host = await testHost();
    const { stateDir, runDir } = host.options;
    const memory = { bytes: '64MiB', maxBytes: '128MiB', backing: 'file' } as const;
    await host.manager.run(await bootSectorVm(host, { name: 'web', memory, guestAgent: {} }, { says: 'secret\n' }));
    const { argv } = await host.manager.args({ vm: 'web' });
    const ramFiles = argv.flatMap((argument) => (argument.includes('"mem-path"') ? [JSON.parse(argument)['mem-path']] : []));
    expect(ramFiles).toHaveLength(2);
    const isClosed = (path: string): boolean => (lstatSync(path).mode & OTHERS) === 0;
    // A folder of the VM's that is closed to others closes what is below it.
    const vmFolders = [join(stateDir, 'vms', 'web'), join(runDir, 'web')];
    expect(vmFolders.filter((folder) => !isClosed(folder))).toEqual([]);
    expect(ramFiles.filter((path) => !isClosed(path))).toEqual([]);
  },
);
