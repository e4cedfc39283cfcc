/** What the keeper of desired state does with one VM, from what it sees. */
import * as v from 'valibot';
import { describe, expect, it } from 'vitest';
import { decide, type Step } from '../../agent/desired/decide.ts';
import { APPLY_LABEL, DesiredVm, SPEC_LABEL } from '../../shared/protocol/methods-desired.ts';
import { VM_STATES, type VmInfo, type VmState } from '../../shared/protocol/vm.ts';
import { fakeVmInfo } from '../support/fake-vms.ts';

const OURS = { [APPLY_LABEL]: 'tier', [SPEC_LABEL]: 'digest' };

const desired = (more: object = {}, labels: object = OURS): DesiredVm =>
  v.parse(DesiredVm, { spec: { name: 'web', labels }, ...more });
const actual = (state: VmState, more: Partial<VmInfo> = {}): VmInfo => ({
  ...fakeVmInfo('web', state),
  uuid: 'ours',
  labels: OURS,
  ...more,
});

describe('the keeper', () => {
  it('starts what is at rest, and leaves what runs, sleeps or was paused by somebody', () => {
    const steps = Object.fromEntries(VM_STATES.map((state) => [state, decide(desired(), actual(state), 'ours').do]));
    expect(steps).toEqual({
      created: 'start',
      starting: 'wait',
      running: 'nothing',
      paused: 'nothing',
      panicked: 'nothing',
      'io-error': 'nothing',
      suspending: 'wait',
      suspended: 'nothing',
      resuming: 'wait',
      stopping: 'wait',
      stopped: 'start',
      crashed: 'start',
    } satisfies Record<VmState, Step['do']>);
  });

  it('leaves a crashed VM to its own restart policy', () => {
    const restart = { attempts: 1, dueAt: '2030-01-01T00:00:00.000Z' };
    expect(decide(desired(), actual('crashed', { restart }), 'ours')).toMatchObject({ do: 'wait' });
  });

  it('stops what is to be stopped', () => {
    const stopped = desired({ power: 'stopped' });
    expect(decide(stopped, actual('running'), 'ours').do).toBe('stop');
    expect(decide(stopped, actual('stopped'), 'ours').do).toBe('nothing');
    expect(decide(stopped, undefined, undefined).do).toBe('create');
  });

  it('replaces a VM of another spec, at once or when it is at rest', () => {
    const labels = { ...OURS, [SPEC_LABEL]: 'another' };
    expect(decide(desired({}, labels), actual('running'), 'ours').do).toBe('remove');
    expect(decide(desired({ replace: 'when-stopped' }, labels), actual('running'), 'ours').do).toBe('wait');
    expect(decide(desired({ replace: 'when-stopped' }, labels), actual('stopped'), 'ours').do).toBe('remove');
  });

  it('touches no VM that is not its own, also when it has its labels by cloning', () => {
    expect(decide(desired(), actual('stopped', { uuid: 'theirs', labels: {} }), undefined).do).toBe('conflict');
    expect(decide(undefined, actual('running', { uuid: 'clone' }), 'ours').do).toBe('forget');
    expect(decide(undefined, actual('running'), undefined).do).toBe('forget');
  });

  it('takes up a VM that it made and could not note, and forgets one that is gone', () => {
    expect(decide(desired(), actual('created'), undefined).do).toBe('adopt');
    expect(decide(undefined, undefined, 'ours').do).toBe('forget');
    expect(decide(undefined, actual('stopped'), 'ours').do).toBe('remove');
    expect(decide(undefined, actual('stopping'), 'ours').do).toBe('wait');
  });
});
