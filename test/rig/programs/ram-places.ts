/**
 * Where the RAM of guests can be: huge pages, which can be mapped and read and not written to, and btrfs, whose files share blocks until one
 * of them is written to. Run inside a VM that may mount.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, statfsSync, truncateSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { frozenCopy, hashContent } from '../../../agent/vm/snapshot/content.ts';
import { parseParams } from '../../../shared/protocol/validate.ts';
import { snapshotsOf } from '../../support/snapshots.ts';
import { spec, type TestHost, testHost } from '../../support/vm.ts';
import { runCases } from '../../support/vm-cases.ts';

const MIB = 1024 ** 2;
const HUGE = '/tmp/huge';
const HUGE_PAGES = 96;
const BTRFS = '/tmp/btrfs';
const never = new AbortController().signal;

mkdirSync(HUGE);
writeFileSync('/proc/sys/vm/nr_hugepages', String(HUGE_PAGES));
execFileSync('mount', ['-t', 'hugetlbfs', 'none', HUGE]);
execFileSync('load', ['filesystems']);
writeFileSync(`${BTRFS}.img`, '');
truncateSync(`${BTRFS}.img`, 512 * MIB);
execFileSync('mkfs.btrfs', ['-q', `${BTRFS}.img`]);
mkdirSync(BTRFS);
execFileSync('mount', ['-t', 'btrfs', '-o', 'loop', `${BTRFS}.img`, BTRFS]);

const memory = { bytes: '64MiB', backing: 'file' } as const;
const inFile = (name: string, balloon: boolean) => spec({ name, accelerator: 'kvm', memory, devices: { balloon } });
const save = (host: TestHost, name: string, mode: 'instant' | 'stream') =>
  snapshotsOf(host).create(parseParams('snapshot.create', { vm: 'web', name, mode, clonable: true }), {});

await runCases({
  'RAM in huge pages is kept over a suspend': async () => {
    await using host = await testHost({ ramDir: join(HUGE, 'one') });
    const { pid = 0 } = await host.manager.run(inFile('web', false));
    const mapped = readFileSync(`/proc/${pid}/smaps`, 'utf8').split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
    assert.match(mapped.find((part) => part.includes('web.ram')) ?? '', /KernelPageSize:\s+2048 kB/);
    await host.manager.suspend('web', { durability: 'process' });
    const before = await hashContent(join(HUGE, 'one/web.ram'), never);
    await host.manager.resume('web');
    assert.equal(host.manager.get('web').state, 'running');
    await host.manager.suspend('web', { durability: 'process' });
    assert.equal((await hashContent(join(HUGE, 'one/web.ram'), never)).bytes, before.bytes);
    await host.manager.resume('web');
    await assert.rejects(host.manager.suspend('web', { durability: 'host' }), { code: 'UNSUPPORTED' });
    await assert.rejects(host.manager.run(spec({ name: 'odd', memory: { bytes: '65MiB', backing: 'file' } })), {
      code: 'INVALID_PARAMS',
    });
  },

  'a guest in huge pages is saved, and cloned where its memory is shared; it goes back to a stream': async () => {
    await using host = await testHost({ ramDir: join(HUGE, 'two') });
    await host.manager.run(inFile('web', false));
    await save(host, 'gold', 'instant');
    await save(host, 'whole', 'stream');
    const snapshots = snapshotsOf(host);
    assert.deepEqual(await snapshots.verify({ snapshot: 'gold' }, {}).then(({ ok }) => ok), true);
    const { memory: how } = await snapshots.clone(parseParams('vm.clone', { snapshot: 'gold', names: ['one'] }), {});
    assert.equal(how, 'shared');
    await host.manager.stop('web', { graceMs: 0 });
    await assert.rejects(snapshots.restore(parseParams('vm.restore', { snapshot: 'gold' }), {}), {
      code: 'UNSUPPORTED',
      message: /huge pages/,
    });
    assert.equal(host.manager.get('web').state, 'stopped');
    assert.equal((await snapshots.restore(parseParams('vm.restore', { snapshot: 'whole' }), {})).state, 'running');
  },

  'a copy on btrfs shares its blocks, and keeps what it has when the other is written to': async () => {
    const [from, to] = [join(BTRFS, 'from'), join(BTRFS, 'to')];
    writeFileSync(from, randomBytes(96 * MIB));
    execFileSync('sync');
    const free = (): number => statfsSync(BTRFS).bfree * statfsSync(BTRFS).bsize;
    const before = free();
    assert.equal(await frozenCopy(from, to, never), 'reflink');
    execFileSync('sync');
    assert.ok(before - free() < 16 * MIB, `it took ${before - free()} bytes`);
    const { sha256 } = await hashContent(to, never);
    await using file = await open(from, 'r+');
    await file.write(Buffer.alloc(MIB), 0, MIB, 8 * MIB);
    assert.equal((await hashContent(to, never)).sha256, sha256);
    assert.notEqual((await hashContent(from, never)).sha256, sha256);
  },

  'a guest on btrfs is saved by reflink, cloned with RAM of its own, and put to sleep durably': async () => {
    await using host = await testHost({ ramDir: join(BTRFS, 'ram'), stateDir: join(BTRFS, 'state') });
    await host.manager.run(inFile('web', true));
    const { pausedMs } = await save(host, 'gold', 'instant');
    const snapshots = snapshotsOf(host);
    const { memory: how } = await snapshots.clone(parseParams('vm.clone', { snapshot: 'gold', names: ['one'] }), {});
    assert.equal(how, 'copied');
    await host.manager.suspend('one', { durability: 'host' });
    assert.equal((await host.manager.resume('one')).state, 'running');
    assert.equal((await snapshots.verify({ snapshot: 'gold' }, {})).ok, true);
    return `the guest stood still for ${pausedMs} ms`;
  },
});

for (const mounted of [HUGE, BTRFS]) execFileSync('umount', [mounted]);
writeFileSync('/proc/sys/vm/nr_hugepages', '0');
rmSync(`${BTRFS}.img`);
