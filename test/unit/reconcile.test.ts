import { describe, expect, it } from 'vitest';
import { lookAt, reconcilerOf } from '../../agent/rpc/reconcile.ts';
import type { Vms } from '../../agent/vm/api.ts';
import { FairleadError } from '../../shared/errors.ts';
import type { Operation } from '../../shared/protocol/methods-operation.ts';
import type { VmInfo, VmState } from '../../shared/protocol/vm.ts';
import { FakeVms, fakeVmInfo } from '../support/fake-vms.ts';

const ALONE = { isAlone: true };
const UUID = '00000000-0000-0000-0000-000000000000';

function operation(method: string, before?: { state?: VmState; generation?: number; uuid?: string }): Operation {
  return {
    id: 'c1',
    method,
    host: 'h1',
    vm: 'web',
    state: 'accepted',
    acceptedAt: '2026-01-01T00:00:00.000Z',
    paramsDigest: '0'.repeat(64),
    attempts: 1,
    ...(before === undefined ? {} : { before: { uuid: UUID, generation: 1, state: 'running', ...before } }),
  };
}

function vmsWith(info: Partial<VmInfo> | undefined, overrides: Partial<Vms> = {}): FakeVms {
  const vms = new FakeVms([], overrides);
  if (info !== undefined) vms.infos.push({ ...fakeVmInfo('web'), ...info });
  return vms;
}

describe('what became of a command that a crash cut off', () => {
  it.each([
    ['vm.create', undefined, { state: 'created' }, 'done'],
    ['vm.create', undefined, undefined, 'not-done'],
    ['vm.create', {}, { state: 'running' }, 'not-done'],
    ['vm.run', undefined, { state: 'running' }, 'done'],
    ['vm.run', undefined, { state: 'crashed' }, 'unknown'],
    ['vm.run', {}, { state: 'stopped' }, 'not-done'],
    ['vm.start', { state: 'stopped' }, { state: 'running', generation: 2 }, 'done'],
    ['vm.start', { state: 'stopped' }, { state: 'paused', generation: 2 }, 'done'],
    ['vm.start', { state: 'stopped' }, { state: 'stopped', generation: 1 }, 'not-done'],
    ['vm.start', { state: 'crashed' }, { state: 'crashed', generation: 1 }, 'not-done'],
    ['vm.start', { state: 'stopped' }, { state: 'crashed', generation: 2 }, 'unknown'],
    ['vm.start', undefined, undefined, 'not-done'],
    ['vm.stop', {}, { state: 'stopped' }, 'done'],
    ['vm.stop', {}, { state: 'crashed' }, 'done'],
    ['vm.stop', {}, { state: 'stopping' }, 'done'],
    ['vm.stop', {}, { state: 'running' }, 'not-done'],
    ['vm.stop', {}, { state: 'running', generation: 2 }, 'unknown'],
    ['vm.stop', {}, undefined, 'unknown'],
    ['vm.delete', {}, undefined, 'done'],
    ['vm.delete', {}, { state: 'stopped' }, 'not-done'],
    ['vm.delete', { uuid: 'another' }, { state: 'running' }, 'done'],
    ['vm.pause', {}, { state: 'paused' }, 'done'],
    ['vm.pause', {}, { state: 'running' }, 'not-done'],
    ['vm.pause', {}, { state: 'panicked' }, 'unknown'],
    ['vm.pause', {}, { state: 'paused', generation: 2 }, 'unknown'],
    ['vm.pause', {}, { state: 'stopped' }, 'unknown'],
    ['vm.resume', { state: 'paused' }, { state: 'running' }, 'done'],
    ['vm.resume', { state: 'paused' }, { state: 'paused' }, 'not-done'],
    ['vm.reset', {}, { state: 'running' }, 'unknown'],
    ['vm.qmp', {}, { state: 'running' }, 'unknown'],
    ['constructor', {}, { state: 'running' }, 'unknown'],
  ] as const)('%s on %j that leaves %j is %s', async (method, before, info, outcome) => {
    const found = await reconcilerOf(vmsWith(info))(operation(method, before), ALONE);
    expect(found.outcome).toBe(outcome);
    expect(found.reason).not.toBe('');
  });

  it('a VM that was made and not started is removed, as `vm.run` itself would have', async () => {
    const vms = vmsWith({ state: 'created' });
    expect(await reconcilerOf(vms)(operation('vm.run'), ALONE)).toMatchObject({ outcome: 'not-done' });
    expect(vms.calls).toEqual([['delete', 'web', true]]);
  });

  it.each(['vm.create', 'vm.run'])(
    'cannot be told of %s while another command for that VM was under way, and nothing is removed',
    async (method) => {
      const vms = vmsWith({ state: 'created' });
      expect(await reconcilerOf(vms)(operation(method), { isAlone: false })).toMatchObject({ outcome: 'unknown' });
      expect(vms.calls).toEqual([]);
    },
  );

  it('is unknown where QEMU does not answer, or the looking fails', async () => {
    const qmp = async () => {
      throw new FairleadError('TIMEOUT', 'QEMU does not answer');
    };
    const found = await reconcilerOf(vmsWith({ state: 'paused' }, { qmp }))(operation('vm.pause', {}), ALONE);
    expect(found).toEqual({ outcome: 'unknown', reason: 'it could not be looked at: QEMU does not answer' });
  });

  it('of a VM whose record is broken is that it has not been deleted', async () => {
    const vms = vmsWith(undefined, { broken: [{ name: 'web', reason: 'no JSON' }] });
    expect(await reconcilerOf(vms)(operation('vm.delete', {}), ALONE)).toMatchObject({ outcome: 'not-done' });
  });

  it('is told by the rule of whoever the method belongs to', async () => {
    const rules = { 'vm.reset': () => ({ outcome: 'done', reason: 'seen', result: {} }) as const };
    expect(await reconcilerOf(vmsWith({}), rules)(operation('vm.reset'), ALONE)).toMatchObject({
      outcome: 'done',
      reason: 'seen',
    });
  });
});

it('a look at a VM tells how it is, or that there is none', () => {
  expect(lookAt(vmsWith({ state: 'paused', generation: 4 }), 'web')).toEqual({ uuid: UUID, generation: 4, state: 'paused' });
  expect(lookAt(vmsWith(undefined), 'web')).toBeUndefined();
});
