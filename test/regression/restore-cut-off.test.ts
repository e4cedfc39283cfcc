/**
 * A restore names a snapshot and no VM, so its record does not say how the VM was before. An agent that found one cut off took whatever ran
 * for restored, and whatever had been made and never run for its own, and deleted it.
 */
import { expect, it } from 'vitest';
import { reconcilerOf } from '../../agent/rpc/reconcile.ts';
import { snapshotReconcilers } from '../../agent/rpc/reconcile-snapshot.ts';
import type { Snapshots } from '../../agent/vm/snapshot/snapshots.ts';
import type { Operation } from '../../shared/protocol/methods-operation.ts';
import type { VmInfo } from '../../shared/protocol/vm.ts';
import { FakeVms, fakeVmInfo } from '../support/fake-vms.ts';

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

async function settled(info: Partial<VmInfo>) {
  const vms = new FakeVms([]);
  vms.infos.push({ ...fakeVmInfo('web'), ...info });
  // SAFETY: all that the rule for a restore asks of them.
  const snapshots = { find: async () => ({ name: 'one', vm: 'web' }) } as unknown as Snapshots;
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

it.each([
  ['before, and never run', { state: 'created', generation: 0, createdAt: BEFORE }, false],
  ['before, and run', { state: 'stopped', generation: 1, createdAt: BEFORE }, false],
  ['for it', { state: 'created', generation: 0, createdAt: MEANWHILE }, true],
  ['for it, and half started', { state: 'stopped', generation: 1, createdAt: MEANWHILE }, true],
  ['by a command of the next agent', { state: 'created', generation: 0, createdAt: LATER }, false],
] as const)('a VM that was made %s is removed only if it is its own', async (_, info, isRemoved) => {
  expect(await settled(info)).toEqual({ outcome: 'not-done', calls: isRemoved ? [['delete', 'web', true]] : [] });
});
