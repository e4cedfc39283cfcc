/**
 * A removal looked at who stood on a snapshot and then whether anything was being made from it. What was made, and done, between the two
 * looks was seen by neither: the VM lost what was below its disks.
 */
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { Vms } from '../../agent/vm/api.ts';
import { SnapshotCatalogue } from '../../agent/vm/snapshot/catalogue.ts';
import { Snapshots } from '../../agent/vm/snapshot/snapshots.ts';
import { parseParams } from '../../shared/protocol/validate.ts';
import { silent, spec } from '../support/vm.ts';

const UUID = '00000000-0000-0000-0000-000000000000';
const SUM = { bytes: 1, sha256: '0'.repeat(64) };

test('what is made from a snapshot while it is looked at for its removal waits, and is made or finds it gone', async ({
  onTestFinished,
}) => {
  const directory = await mkdtemp(join(tmpdir(), 'fl-removed-'));
  onTestFinished(() => rm(directory, { recursive: true }));
  const catalogue = new SnapshotCatalogue({ directory: join(directory, 'snapshots'), owner: undefined });
  {
    await using draft = await catalogue.begin('one');
    const about = { version: 1, name: 'one', vm: 'web', vmUuid: UUID, mode: 'stream', clonable: false } as const;
    const facts = { machine: 'pc-q35-7.2', accelerator: 'tcg', ports: 4 } as const;
    const abi = { machine: facts.machine, accelerator: '', cpu: '', smp: '', memory: '', devices: {} };
    const made = { createdAt: '2026-01-01T00:00:00.000Z', qemuVersion: '7.2.22', facts, pausedMs: 0 };
    const files = { state: SUM, ram: [], disks: [] };
    await draft.keep({ ...about, ...made, ...files, abi, spec: spec({ name: 'web' }), unplugged: { networks: [] } });
  }
  const looking = Promise.withResolvers<void>();
  const mayGoOn = Promise.withResolvers<void>();
  const vms = {
    list: () => [{ name: 'web', uuid: UUID, pid: 1, spec: spec({ name: 'web' }) }],
    get: () => ({ name: 'web' }),
    hostInfo: async () => ({ qemu: { version: '7.2.22' } }),
    args: async (of: object) => {
      if ('vm' in of) {
        looking.resolve();
        await mayGoOn.promise;
      }
      return { argv: [] };
    },
    restore: async () => {},
  };
  const tools = { checkPolicy: async () => {}, seedGuest: async () => {}, setClock: async () => {}, nameGuest: async () => {} };
  // SAFETY: as much of it as a removal and a restore ask for.
  const here = { vms: vms as unknown as Vms, directory: join(directory, 'snapshots'), vsockKind: undefined, logger: silent };
  const snapshots = new Snapshots({ ...here, ...tools });

  const removal = snapshots.remove({ snapshot: 'one' }).then(
    () => 'removed',
    ({ code }) => String(code),
  );
  await looking.promise;
  const restore = snapshots.restore(parseParams('vm.restore', { snapshot: 'one' }), {}).then(
    () => 'restored',
    ({ code }) => String(code),
  );
  // As far as it gets.
  for (let turn = 0; turn < 50; turn++) await stat(directory);
  mayGoOn.resolve();
  expect([
    ['removed', 'NOT_FOUND'],
    ['CONFLICT', 'restored'],
  ]).toContainEqual([await removal, await restore]);
});
