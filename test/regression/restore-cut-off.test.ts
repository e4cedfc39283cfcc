/**
 * A restore names a snapshot and no VM, so its record does not say how the VM was before. An agent that found one cut off took whatever ran
 * for restored, and whatever had been made and never run for its own, and deleted it; but a VM that it had made and that had its disks it left,
 * and the repeat took that for another.
 */
import { expect, it } from 'vitest';
import { reconcilerOf } from '../../agent/rpc/reconcile.ts';
import { snapshotReconcilers } from '../../agent/rpc/reconcile-snapshot.ts';
import type { RestoreIntent } from '../../agent/vm/snapshot/restore-intent.ts';
import type { Snapshots } from '../../agent/vm/snapshot/snapshots.ts';
import type { Operation } from '../../shared/protocol/methods-operation.ts';
import type { VmInfo } from '../../shared/protocol/vm.ts';
import { FakeVms, fakeVmInfo } from '../support/fake-vms.ts';
import { spec } from '../support/vm.ts';

const BEFORE = '2026-01-01T00:00:00.000Z';
const ACCEPTED = '2026-01-01T00:00:01.000Z';
const MEANWHILE = '2026-01-01T00:00:02.000Z';
/** When the next agent began. */
const OPENED = '2026-01-01T00:00:03.000Z';
const LATER = '2026-01-01T00:00:04.000Z';

const RESTORE: Operation = {
  id: 'c1',
  method: 'vm.restore',
  host: 'h1',
  state: 'accepted',
  acceptedAt: ACCEPTED,
  params: { snapshot: 'one' },
  paramsDigest: '0'.repeat(64),
  attempts: 1,
};

async function settled(info: Partial<VmInfo>, begun: readonly RestoreIntent[] = []) {
  const vms = new FakeVms([]);
  vms.infos.push({ ...fakeVmInfo('web'), ...info });
  // SAFETY: all that the rule for a restore asks of them.
  const snapshots = { find: async () => ({ name: 'one', vm: 'web' }), restoresSince: async () => begun } as unknown as Snapshots;
  const { outcome } = await reconcilerOf(vms, snapshotReconcilers(snapshots, OPENED))(RESTORE, { isAlone: true });
  return { outcome, calls: vms.calls };
}

it.each([
  ['before', BEFORE, 'not-done'],
  ['for it', MEANWHILE, 'done'],
  ['by a command of the next agent', LATER, 'not-done'],
])('of a VM that was begun %s is told the truth', async (_, startedAt, outcome) => {
  expect(await settled({ state: 'running', createdAt: BEFORE, startedAt })).toEqual({ outcome, calls: [] });
});

const UUID = fakeVmInfo('web').uuid;
const OTHER = '99999999-9999-4999-8999-999999999999';
const NO_EXIT = { at: MEANWHILE, code: null, signal: null, stderrTail: '' };
const DISKS = spec({ name: 'web', disks: [{ id: 'a', path: '/a.qcow2', format: 'qcow2' }] });
const CREATED = { state: 'created', generation: 0, createdAt: MEANWHILE } as const;
const HALF_STARTED = {
  state: 'stopped',
  generation: 1,
  createdAt: MEANWHILE,
  exit: { ...NO_EXIT, reason: 'start-failed' },
} as const;

it.each([
  ['before, and never run', { ...CREATED, createdAt: BEFORE }, UUID, false],
  ['before, and run', { ...HALF_STARTED, createdAt: BEFORE }, UUID, false],
  ['for it', CREATED, UUID, true],
  ['for it, which was not written down any more', CREATED, undefined, true],
  ['with disks, so not for it, of which nothing was written down', { ...CREATED, spec: DISKS }, undefined, false],
  ['for it, and half started', HALF_STARTED, UUID, true],
  ['for it, and half started with its disks', { ...HALF_STARTED, spec: DISKS }, UUID, true],
  ['for it, and run', { ...HALF_STARTED, exit: { ...NO_EXIT, reason: 'guest-shutdown' } }, UUID, false],
  ['for it, and run again', { ...HALF_STARTED, generation: 2 }, UUID, false],
  ['by somebody else meanwhile', CREATED, OTHER, false],
  ['by somebody else meanwhile, and half started', { ...HALF_STARTED, spec: DISKS }, OTHER, false],
  ['by a command of the next agent', { ...CREATED, createdAt: LATER }, UUID, false],
] as const)('a VM that was made %s is removed only if it is its own', async (_, info, uuid, isRemoved) => {
  const begun = { at: ACCEPTED, ...(uuid !== undefined && { uuid }) };
  expect(await settled(info, [begun])).toEqual({ outcome: 'not-done', calls: isRemoved ? [['delete', 'web', true]] : [] });
});

it('a VM that no restore has written down is removed by none', async () => {
  expect(await settled(CREATED)).toEqual({ outcome: 'not-done', calls: [] });
});
