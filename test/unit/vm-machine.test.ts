import { describe, expect, test } from 'vitest';
import { GUEST_STATES, REST_STATES, requireStartable, requireState, transition, type VmInput } from '../../agent/vm/machine.ts';
import { VM_STATES, type VmState } from '../../shared/protocol/vm.ts';

const INPUTS: readonly VmInput[] = [
  'start',
  'resume',
  'pause',
  'panic',
  'io-error',
  'reset',
  'suspend',
  'suspend-failed',
  'suspended',
  'wake',
  'wake-failed',
  'discard',
  'stop',
  'stop-abandoned',
  'exit-clean',
  'exit-unexpected',
];

function walk(from: VmState, inputs: readonly VmInput[]): VmState[] {
  const states: VmState[] = [];
  let state = from;
  for (const input of inputs) {
    state = transition(state, input)?.state ?? state;
    states.push(state);
  }
  return states;
}

describe('the state machine of a VM', () => {
  test('goes through a whole life', () => {
    const life: VmInput[] = ['start', 'resume', 'pause', 'resume', 'stop', 'exit-clean', 'start', 'resume', 'exit-unexpected'];
    expect(walk('created', life)).toEqual([
      'starting',
      'running',
      'paused',
      'running',
      'stopping',
      'stopped',
      'starting',
      'running',
      'crashed',
    ]);
  });

  test.each([
    ['panic', 'panicked'],
    ['io-error', 'io-error'],
  ] as const)('a STOP on either side of %s does not hide it', (input, state) => {
    expect(walk('running', ['pause', input]).at(-1)).toBe(state);
    expect(walk('running', [input, 'pause']).at(-1)).toBe(state);
  });

  test('an input that says nothing new tells no event', () => {
    expect(transition('paused', 'pause')).toBeUndefined();
    expect(transition('running', 'resume')).toBeUndefined();
    expect(transition('stopping', 'stop')).toBeUndefined();
    expect(transition('stopped', 'exit-unexpected')).toBeUndefined();
  });

  test('a reset is told in every state of the guest and changes none', () => {
    for (const state of GUEST_STATES) expect(transition(state, 'reset')).toEqual({ state, event: 'vm.reset' });
  });

  test('goes to sleep and wakes up, also where that takes several attempts', () => {
    const life: VmInput[] = ['suspend', 'suspend-failed', 'suspend', 'suspended', 'wake', 'wake-failed', 'wake', 'resume'];
    expect(walk('running', life)).toEqual([
      'suspending',
      'running',
      'suspending',
      'suspended',
      'resuming',
      'suspended',
      'resuming',
      'running',
    ]);
    expect(walk('suspended', ['discard', 'start'])).toEqual(['stopped', 'starting']);
  });

  test('what QEMU says of its CPUs on the way to sleep is part of that, and an end there is a crash whatever it says', () => {
    for (const input of ['pause', 'stop'] as const) expect(transition('suspending', input)).toBeUndefined();
    for (const state of ['suspending', 'resuming'] as const) {
      for (const exit of ['exit-clean', 'exit-unexpected'] as const) expect(transition(state, exit)?.state).toBe('crashed');
    }
  });

  test('nothing but start leaves a state of rest', () => {
    for (const state of REST_STATES) {
      for (const input of INPUTS) expect(transition(state, input)?.state).toBe(input === 'start' ? 'starting' : undefined);
    }
  });

  test("every state with a process is left by its exit, except starting, whose failure is the start's", () => {
    for (const state of [...GUEST_STATES, 'stopping'] as const) {
      expect(transition(state, 'exit-clean')?.state).toBe('stopped');
      expect(transition(state, 'exit-unexpected')?.state).toBe('crashed');
    }
    expect(transition('starting', 'exit-unexpected')).toBeUndefined();
  });

  test('every state that it reaches is in the contract', () => {
    for (const state of VM_STATES) {
      for (const input of INPUTS) expect([...VM_STATES, undefined]).toContain(transition(state, input)?.state);
    }
  });

  test('a command in the wrong state says which state it is and which it would have to be', () => {
    expect(() => requireState('web', 'stopped', ['running', 'paused'], 'pause')).toThrowError(
      expect.objectContaining({
        code: 'WRONG_STATE',
        message: 'cannot pause VM web: it is stopped and would have to be running or paused',
        details: { vm: 'web', state: 'stopped', required: ['running', 'paused'] },
      }),
    );
  });

  test('a start names the command that brings a VM back that is suspended or paused', () => {
    for (const state of REST_STATES) expect(() => requireStartable('web', state)).not.toThrow();
    for (const state of ['suspended', 'paused'] as const) {
      expect(() => requireStartable('web', state)).toThrowError(
        expect.objectContaining({
          code: 'WRONG_STATE',
          message: expect.stringMatching(new RegExp(`^cannot start VM web: it is ${state} and .*; \`vm resume\``)),
          details: { vm: 'web', state, required: REST_STATES },
        }),
      );
    }
    expect(() => requireStartable('web', 'stopping')).toThrowError(/^cannot start VM web: it is stopping [^;]*$/);
  });
});
