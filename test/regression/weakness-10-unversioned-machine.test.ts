/**
 * Weakness 10: VMs ran on the alias of a machine type, which means another machine after an upgrade of QEMU. (What a snapshot says of the
 * machine that it is of is checked by the tests of snapshots.)
 */
import { expect, test } from 'vitest';
import { spec, testHost, whyNoQemu } from '../support/vm.ts';

const missing = whyNoQemu();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

test.skipIf(missing !== undefined)(
  'a VM runs on a machine type of a fixed version, and every device has a fixed address',
  async () => {
    await using host = await testHost();
    const { manager } = host;
    await manager.run(spec({ name: 'web', networks: [{ type: 'user' }], vsock: undefined }));
    const { argv } = await manager.args({ vm: 'web' });
    expect(argv[argv.indexOf('-machine') + 1]).toMatch(/^pc-q35-\d+\.\d+,/);
    expect(argv.filter((argument) => argument === '-machine' || argument === '-M')).toHaveLength(1);

    const devices = argv.flatMap((flag, index) => (flag === '-device' ? [JSON.parse(argv[index + 1] ?? '')] : []));
    const placed = devices.filter(({ driver }) => driver !== 'vmgenid');
    expect(placed.length).toBeGreaterThan(4);
    expect(placed.filter(({ bus, addr }) => bus === undefined || (bus === 'pcie.0' && addr === undefined))).toEqual([]);
  },
);
