/** VMs that firmware boots, each from what its spec names: SeaBIOS as a ROM, OVMF as flash with variables of the VM's own. */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { copyFile, link, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { artefacts, cacheDirectory, currentVersion } from '../../cli/image/cache.ts';
import type { VmSpecInput } from '../../shared/protocol/vm-spec.ts';
import { bootSectorVm } from '../support/boot-sector.ts';
import { efiApplication } from '../support/efi-application.ts';
import { efiDisk } from '../support/efi-disk.ts';
import { inGuest, linuxHost, runLinux, whyNoLinux } from '../support/linux-vm.ts';
import { nextEvent, spec, type TestHost, testHost, whyNoQemu } from '../support/vm.ts';

const SEABIOS = '/usr/share/seabios/bios-256k.bin';
/** Eight characters, eleven bytes before the end of the PC's address space, where every BIOS has its date. */
const DATE = '11/22/63';
const DATE_FROM_END = 11;

const ovmf = currentVersion(cacheDirectory(), 'ovmf');
const noBios = whyNoQemu() ?? (existsSync(SEABIOS) ? undefined : `there is no ${SEABIOS}`);
const noUefi = whyNoQemu() ?? (ovmf === undefined ? 'OVMF has not been fetched: run `node scripts/setup.mjs test`' : undefined);
for (const reason of new Set([noBios, noUefi])) if (reason !== undefined) console.warn(`skipped: ${reason}`);

function consoleOf({ options }: TestHost, vm: string): Promise<string> {
  return readFile(join(options.stateDir, 'vms', vm, 'logs/console.log'), 'latin1');
}

async function hashOf(path: string): Promise<string> {
  return createHash('sha256')
    .update(await readFile(path))
    .digest('hex');
}

/** A file in a directory of the host's, which goes with it. */
async function placeFor({ options }: TestHost, name: string): Promise<string> {
  const directory = join(options.stateDir, 'images');
  await mkdir(directory, { recursive: true });
  return join(directory, name);
}

/** OVMF with variables for one VM. */
async function uefi(host: TestHost, vm: string): Promise<{ code: string; vars: string }> {
  const vars = await placeFor(host, `${vm}-vars.fd`);
  await copyFile(join(ovmf ?? '', 'vars.fd'), vars);
  return { code: join(ovmf ?? '', 'code.fd'), vars };
}

describe.skipIf(noBios !== undefined)('SeaBIOS', () => {
  test('that the spec names is the one that boots the disk', async () => {
    await using host = await testHost();
    const code = await placeFor(host, 'dated.bin');
    const bios = await readFile(SEABIOS);
    bios.write(DATE, bios.length - DATE_FROM_END);
    await writeFile(code, bios);
    const stopped = nextEvent(host.manager, 'vm.stopped');
    const input: VmSpecInput = { name: 'web', boot: { firmware: { code } } };
    await host.manager.run(await bootSectorVm(host, input, { says: 'booted by the BIOS of ', does: 'tell-bios-date' }));
    expect(await stopped).toMatchObject({ data: { reason: 'guest-shutdown' } });
    expect(await consoleOf(host, 'web')).toContain(`booted by the BIOS of ${DATE}`);
  });
});

describe.skipIf(noUefi !== undefined)('UEFI firmware in flash', () => {
  test('boots a disk, and what it keeps is there at the next start, in the file of this VM alone', async () => {
    await using host = await testHost();
    const path = await placeFor(host, 'efi.raw');
    await writeFile(path, efiDisk(efiApplication({ says: 'hello from UEFI, try ' })));
    const firmware = await uefi(host, 'web');
    const pristine = await Promise.all(['code.fd', 'vars.fd'].map((name) => hashOf(join(ovmf ?? '', name))));
    await host.manager.create(spec({ name: 'web', memory: { bytes: '128MiB' }, boot: { firmware }, disks: [{ path }] }));
    for (const tries of [1, 2]) {
      const stopped = nextEvent(host.manager, 'vm.stopped');
      await host.manager.start('web');
      expect(await stopped).toMatchObject({ data: { reason: 'guest-shutdown' } });
      expect(await consoleOf(host, 'web')).toContain(`hello from UEFI, try ${tries} EDK II`);
    }
    expect(await Promise.all(['code.fd', 'vars.fd'].map((name) => hashOf(join(ovmf ?? '', name))))).toEqual(pristine);
  });

  test.skipIf(whyNoLinux() !== undefined)('boots Linux; its code serves several VMs at once, its variables one', async () => {
    await using host = await linuxHost();
    const { kernel, initrd } = artefacts();
    const firmware = await uefi(host, 'web');
    const args = 'console=ttyS0 reboot=t panic=-1 quiet';
    await runLinux(host.manager, { name: 'web', boot: { firmware, kernel, initrd, args } });
    expect(await inGuest(host.manager, 'web', 'ls /sys/firmware/efi')).toContain('systab');
    const alias = await placeFor(host, 'alias.fd');
    await link(firmware.vars, alias);
    await expect(
      host.manager.run(spec({ name: 'thief', boot: { firmware: { ...firmware, vars: alias } } })),
    ).rejects.toMatchObject({ code: 'CONFLICT', message: expect.stringMatching(/, which VM web has: give each its own copy$/) });
    const own = await uefi(host, 'db');
    expect(await host.manager.run(spec({ name: 'db', boot: { firmware: own } }))).toMatchObject({ state: 'running' });
  });
});
