/** The supervisor with a guest of another architecture: every device of a `virt` machine, seen by the guest itself. */
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { artefacts } from '../../cli/image/cache.ts';
import { spec, testHost } from '../support/vm.ts';

const { arm64 } = artefacts();
if (arm64 === undefined) console.warn('skipped: the arm64 guest is not in the cache: npm run setup test');

describe.skipIf(arm64 === undefined)('an arm64 guest', () => {
  test('boots on a virt machine and finds every device that its spec names', async () => {
    await using host = await testHost({ qemuBinary: arm64?.qemu });
    const folder = await mkdtemp(join(tmpdir(), 'fl-arm64-'));
    try {
      const images = ['data.raw', 'medium.iso'].map((name) => join(folder, name));
      for (const image of images) await writeFile(image, Buffer.alloc(1024 * 1024));
      const [path, medium] = images;
      await host.manager.run(
        spec({
          name: 'arm',
          machine: 'virt',
          cpus: { count: 2 },
          memory: { bytes: '256MiB', maxBytes: '512MiB' },
          boot: { kernel: arm64?.kernel, initrd: arm64?.initrd, args: 'console=ttyAMA0 quiet panic=-1' },
          disks: [{ path: path ?? '' }, { media: 'cdrom', path: medium }, { media: 'cdrom' }],
          networks: [{ type: 'user' }],
          guestAgent: {},
        }),
      );
      const consoleLog = join(host.options.stateDir, 'vms/arm/logs/console.log');
      await expect
        .poll(() => readFile(consoleLog, 'utf8'), { timeout: 120_000, interval: 200 })
        .toContain('FAIRLEAD GUEST READY');
      const said = (await readFile(consoleLog, 'utf8')).split(/\r?\n/);
      const found = said.filter((line) => line.startsWith('found ')).map((line) => line.slice('found '.length));
      expect(found.sort()).toEqual([
        'virtio_balloon',
        'virtio_blk',
        'virtio_console',
        'virtio_mem',
        'virtio_net',
        'virtio_rng',
        'virtio_scsi',
      ]);
      expect(said).toContain('cpus 2');
      expect(said).toContain('FAIRLEAD GUEST READY on aarch64');
      expect(await host.manager.stop('arm', { graceMs: 0 })).toMatchObject({ endedBy: 'quit' });
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  test('is booted by UEFI firmware in flash, which hands it its kernel', async () => {
    await using host = await testHost({ qemuBinary: arm64?.qemu });
    const folder = dirname(arm64?.kernel ?? '');
    const vars = join(host.options.stateDir, 'arm-vars.fd');
    await copyFile(join(folder, 'vars.fd'), vars);
    const firmware = { code: join(folder, 'code.fd'), vars };
    const boot = { firmware, kernel: arm64?.kernel, initrd: arm64?.initrd, args: 'console=ttyAMA0 panic=-1' };
    await host.manager.run(spec({ name: 'arm', machine: 'virt', memory: { bytes: '256MiB' }, boot }));
    const consoleLog = join(host.options.stateDir, 'vms/arm/logs/console.log');
    await expect.poll(() => readFile(consoleLog, 'utf8'), { timeout: 120_000, interval: 200 }).toContain('FAIRLEAD GUEST READY');
    const said = await readFile(consoleLog, 'utf8');
    expect(said).toContain('UEFI firmware');
    expect(said).toMatch(/efi: EFI v2.* by EDK II/);
  });
});
