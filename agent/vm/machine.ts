/**
 * The states of one VM as a pure function: what is known (`VmState`) and what happened (`VmInput`) give the next state and the event to
 * tell. No clock, no process, no QMP in here; life.ts feeds it.
 *
 *              start               resume
 *   created ──────────▶ starting ─────────▶ running ──┬─ pause ────▶ paused ────┐
 *      ▲  ◀──────────────┘   ▲                ▲       ├─ panic ────▶ panicked ──┤
 *      start-failed: back    │ start          │       └─ io-error ─▶ io-error ──┤
 *      to where it came from │                └───────────── resume ────────────┘
 *                            │
 *        stopped, crashed ───┘     any of the four ── stop, or QEMU says SHUTDOWN ──▶ stopping
 *                                          running ◀── stop-abandoned: only asked, by the power button ──┘
 *
 *   any of the four, or stopping ── exit after SHUTDOWN or by our hand ──▶ stopped
 *                                └─ any other exit ─────────────────────▶ crashed
 *
 *   running ── suspend ──▶ suspending ── suspended ──▶ suspended ── wake ──▶ resuming ── resume ──▶ running
 *      ▲                      │    │                       ▲  │                 │  │
 *      └── suspend-failed ────┘  exit: crashed             │  └─ discard:       │  └── exit: crashed
 *                                                          │     stopped        │
 *                                                          └── wake-failed ─────┘
 *
 * QEMU says STOP together with GUEST_PANICKED and BLOCK_IO_ERROR, before or after: it never hides the more telling state. What it says
 * of its CPUs in the course of a suspend or a resume is part of that. A command's answer and the event that it causes are both fed; the
 * second of them changes nothing.
 */
import { FairleadError } from '../../shared/errors.ts';
import type { VmState } from '../../shared/protocol/vm.ts';
import type { VmEventType } from '../../shared/protocol/vm-events.ts';

export type VmInput =
  | 'start'
  | 'resume'
  | 'pause'
  | 'panic'
  | 'io-error'
  | 'reset'
  | 'suspend'
  | 'suspend-failed'
  | 'suspended'
  | 'wake'
  | 'wake-failed'
  | 'discard'
  | 'stop'
  | 'stop-abandoned'
  | 'exit-clean'
  | 'exit-unexpected';

export interface Transition {
  readonly state: VmState;
  /** What to tell of it; entering `starting` or `resuming` is not told. */
  readonly event?: VmEventType;
}

type Row = Partial<Record<VmInput, Transition>>;

const start: Row = { start: { state: 'starting' } };
const resume: Row = { resume: { state: 'running', event: 'vm.resumed' } };
const panic: Row = { panic: { state: 'panicked', event: 'vm.panicked' } };
const ioError: Row = { 'io-error': { state: 'io-error', event: 'vm.io-error' } };
const suspend: Row = { suspend: { state: 'suspending', event: 'vm.suspending' } };
const crash: Transition = { state: 'crashed', event: 'vm.crashed' };
const stopped: Transition = { state: 'stopped', event: 'vm.stopped' };
const exits: Row = { 'exit-clean': stopped, 'exit-unexpected': crash };
/** Leaving any state in which a process runs the guest. */
const leave: Row = { stop: { state: 'stopping', event: 'vm.stopping' }, ...exits };
const resetIn = (state: VmState): Row => ({ reset: { state, event: 'vm.reset' } });

const TABLE: Readonly<Record<VmState, Row>> = {
  created: start,
  stopped: start,
  crashed: start,
  // Paused is one that was restored so.
  starting: { resume: { state: 'running', event: 'vm.started' }, pause: { state: 'paused', event: 'vm.paused' } },
  running: { pause: { state: 'paused', event: 'vm.paused' }, ...panic, ...ioError, ...resetIn('running'), ...suspend, ...leave },
  paused: { ...resume, ...panic, ...ioError, ...resetIn('paused'), ...leave },
  panicked: { ...resume, ...resetIn('panicked'), ...leave },
  'io-error': { ...resume, ...panic, ...resetIn('io-error'), ...leave },
  // A process that ends in the middle of either has lost the guest, whatever it says.
  suspending: {
    suspended: { state: 'suspended', event: 'vm.suspended' },
    'suspend-failed': { state: 'running', event: 'vm.resumed' },
    'exit-clean': crash,
    'exit-unexpected': crash,
  },
  suspended: { wake: { state: 'resuming' }, discard: stopped },
  resuming: { ...resume, 'wake-failed': { state: 'suspended' }, 'exit-clean': crash, 'exit-unexpected': crash },
  stopping: { 'stop-abandoned': { state: 'running', event: 'vm.stop-abandoned' }, ...exits },
};

/** The next state, or undefined where the input says nothing new in this state. */
export function transition(state: VmState, input: VmInput): Transition | undefined {
  return TABLE[state][input];
}

/** States without a QEMU process, and without anything that a start would lose. */
export const REST_STATES: readonly VmState[] = ['created', 'stopped', 'crashed'];

/** The guest is saved, or being saved or brought back: whoever wants something of it waits, and has it woken. */
export const SLEEP_STATES: readonly VmState[] = ['suspending', 'suspended', 'resuming'];

/** States in which the guest is there: QEMU has started it and nobody has begun to end it. */
export const GUEST_STATES: readonly VmState[] = ['running', 'paused', 'panicked', 'io-error'];
/** Those in which QEMU answers commands. */
export const QMP_STATES: readonly VmState[] = [...GUEST_STATES, 'stopping'];

/**
 * The guard of every command. Throws WRONG_STATE with `{state, required}` and a sentence to act on.
 */
export function requireState(vm: string, state: VmState, required: readonly VmState[], to: string): void {
  if (!required.includes(state)) throw wrongState(vm, state, required, to);
}

/** The guard of a start: people ask for one where the VM waits to go on. */
export function requireStartable(vm: string, state: VmState): void {
  if (REST_STATES.includes(state)) return;
  throw wrongState(vm, state, REST_STATES, 'start', INSTEAD_OF_START[state]);
}

const INSTEAD_OF_START: Partial<Record<VmState, string>> = {
  paused: '`vm resume` lets it go on',
  suspended: '`vm resume` wakes it',
};

function wrongState(vm: string, state: VmState, required: readonly VmState[], to: string, instead?: string): FairleadError {
  const text = `cannot ${to} VM ${vm}: it is ${state} and would have to be ${listOf(required)}`;
  const details = { vm, state, required };
  return new FairleadError('WRONG_STATE', instead === undefined ? text : `${text}; ${instead}`, { details });
}

function listOf(words: readonly string[]): string {
  return words.length < 2 ? words.join('') : `${words.slice(0, -1).join(', ')} or ${words.at(-1)}`;
}
