/**
 * Changing how much memory a running guest has.
 *
 *     read → plan → ask the devices → wait for the guest, each change by an event ──▶ there: answer
 *                                                            └── no change for STALL_MS, or time is nearly over ──▶ GUEST_UNRESPONSIVE
 *
 * QEMU only passes the wish on; the guest's drivers do as much of it as they can. What was asked for stays asked for when the wait ends
 * early, so a guest that gets to it later still does, and the same call again goes on waiting. A later resize of the same VM takes the
 * place of one that waits. The wait is beside the commands of the VM: a guest that does not follow never holds up a `vm.stop`.
 *
 * The size is that of this run of the VM: the next start begins with the spec's `memory.bytes` again.
 */
import { FairleadError, isFairleadError } from '../../../shared/errors.ts';
import type { Params, Result } from '../../../shared/protocol/methods.ts';
import type { CallOptions, Vms } from '../api.ts';
import type { Deadline } from '../deadline.ts';
import type { LiveVm } from '../live-vm.ts';
import { GUEST_STATES } from '../machine.ts';
import { MEMORY_DEVICE, MEMORY_EVENTS, type MemoryReading } from './memory-gauge.ts';
import { type MemoryPlan, mib, planMemory } from './memory-plan.ts';

/** A guest that changes nothing for so long has done what it could; QEMU tells of each change within 1 s. */
const STALL_MS = 10_000;
const NUDGE_MS = 2_000;
/** Kept of the caller's time for the answer that says how far the guest got. */
const ANSWER_MS = 500;
const QUERY_MS = 5_000;

export interface ResizeOptions extends CallOptions {
  readonly onProgress?: ((reading: { targetBytes: number; actualBytes: number }) => void) | undefined;
  /** Called once the guest was asked and before it is waited for. */
  readonly onWait?: (() => void) | undefined;
  /** How long the guest may do nothing. */
  readonly stallMs?: number | undefined;
}

type ResizeResult = Result<'vm.resizeMemory'>;

export class MemoryResizer {
  readonly #vms: Pick<Vms, 'operate'>;
  /** The resize of each VM that waits for its guest. */
  readonly #waiting = new Map<string, AbortController>();

  constructor(vms: Pick<Vms, 'operate'>) {
    this.#vms = vms;
  }

  /** @throws FairleadError INVALID_PARAMS, UNSUPPORTED, WRONG_STATE, GUEST_UNRESPONSIVE, CONFLICT where another took its place. */
  resize({ vm: name, bytes, wait }: Params<'vm.resizeMemory'>, options: ResizeOptions): Promise<ResizeResult> {
    // A guest whose CPUs stand still does nothing.
    const states = wait ? (['running'] as const) : GUEST_STATES;
    const operation = { doing: 'resizing the memory of', inTurn: false, states };
    return this.#vms.operate(name, operation, options, async (vm, deadline) => {
      const before = await read(vm, deadline);
      const plan = planMemory(vm.spec, bytes, before);
      const waiting = new AbortController();
      this.#waiting.get(name)?.abort(superseded(name, bytes));
      this.#waiting.set(name, waiting);
      try {
        using events = vm.listen({ names: MEMORY_EVENTS });
        const following = { vm, bytes, before, events, deadline, replaced: waiting.signal, options };
        // Without anybody who waits for the first, all are asked for at once.
        const phases = wait ? phasesOf(plan, before) : [plan];
        for (const phase of phases) {
          await ask(vm, phase, deadline);
          if (!wait) return { targetBytes: bytes, actualBytes: totalOf(vm, before) };
          options.onWait?.();
          await follow(following, phase);
        }
        return { targetBytes: bytes, actualBytes: bytes };
      } finally {
        if (this.#waiting.get(name) === waiting) this.#waiting.delete(name);
      }
    });
  }
}

/** How far a guest is from a size: it has it, was asked for it by all that can be read of that, or neither. */
export async function readResize(
  vm: LiveVm,
  bytes: number,
  deadline: Deadline,
): Promise<{ readonly stands: 'there' | 'asked' | 'elsewhere'; readonly actualBytes: number }> {
  const reading = await read(vm, deadline);
  const plan = planMemory(vm.spec, bytes, reading);
  const asked = { ...reading, pluggedBytes: reading.requestedBytes };
  const stands = isThere(reading, plan) ? 'there' : isThere(asked, plan) ? 'asked' : 'elsewhere';
  return { stands, actualBytes: totalOf(vm, reading) };
}

/**
 * A balloon that grows takes its pages where it finds them, also from the memory that is about to be unplugged, which then cannot go. So
 * that memory goes first.
 */
function phasesOf(plan: MemoryPlan, before: MemoryReading): MemoryPlan[] {
  const { ramBytes = 0, pluggedBytes = 0 } = before;
  const isBoth = (plan.ramBytes ?? 0) < ramBytes && (plan.pluggedBytes ?? 0) < pluggedBytes;
  return isBoth ? [{ ...plan, ramBytes: undefined }, plan] : [plan];
}

interface Following {
  readonly vm: LiveVm;
  readonly bytes: number;
  readonly before: MemoryReading;
  readonly events: ReturnType<LiveVm['listen']>;
  readonly deadline: Deadline;
  readonly replaced: AbortSignal;
  readonly options: ResizeOptions;
}

/** Until the guest has what the phase asks for. */
async function follow(following: Following, phase: MemoryPlan): Promise<void> {
  const { vm, bytes, events, deadline, replaced, options } = following;
  const { stallMs = STALL_MS, onProgress } = options;
  const signal = AbortSignal.any([deadline.signal, vm.signal, replaced]);
  // What changed between the first reading and the listener is in this one.
  let reading = await read(vm, deadline);
  let quietSince = performance.now();
  while (!isThere(reading, phase)) {
    const quietMs = performance.now() - quietSince;
    const leftMs = Math.min(stallMs - quietMs, deadline.remainingMs - ANSWER_MS);
    try {
      const { name, data } = await events.take({ timeoutMs: Math.max(0, Math.min(leftMs, NUDGE_MS)), signal });
      if (name === 'BALLOON_CHANGE') reading = { ...reading, ramBytes: Number(data['actual']) };
      else if (data['id'] === MEMORY_DEVICE) reading = { ...reading, pluggedBytes: Number(data['size']) };
      quietSince = performance.now();
      onProgress?.({ targetBytes: bytes, actualBytes: totalOf(vm, reading) });
    } catch (error) {
      signal.throwIfAborted();
      if (!isFairleadError(error) || error.code !== 'TIMEOUT') throw error;
      if (leftMs > NUDGE_MS) {
        await nudge(vm, reading, phase, deadline);
        continue;
      }
      reading = await read(vm, deadline);
      if (!isThere(reading, phase)) throw unresponsive(following, totalOf(vm, reading), performance.now() - quietSince);
    }
  }
}

/** A driver that could not free a block tries again much later (Linux: 50 s), or at once when what is asked of it changes. */
async function nudge(vm: LiveVm, { pluggedBytes = 0 }: MemoryReading, phase: MemoryPlan, deadline: Deadline): Promise<void> {
  if (phase.pluggedBytes === undefined || pluggedBytes <= phase.pluggedBytes) return;
  await ask(vm, { ramBytes: undefined, pluggedBytes }, deadline);
  await ask(vm, { ...phase, ramBytes: undefined }, deadline);
}

async function ask(vm: LiveVm, { ramBytes, pluggedBytes }: MemoryPlan, deadline: Deadline): Promise<void> {
  const path = `/machine/peripheral/${MEMORY_DEVICE}`;
  await Promise.all([
    ramBytes === undefined ? undefined : vm.execute('balloon', { value: ramBytes }, deadline),
    pluggedBytes === undefined
      ? undefined
      : vm.execute('qom-set', { path, property: 'requested-size', value: pluggedBytes }, deadline),
  ]);
}

function read(vm: LiveVm, { signal, remainingMs }: Deadline): Promise<MemoryReading> {
  const limits = { signal, remainingMs: Math.min(remainingMs, QUERY_MS) };
  return vm.memory.refresh((command, args) => vm.execute(command, args, limits));
}

function isThere(reading: MemoryReading, { ramBytes, pluggedBytes }: MemoryPlan): boolean {
  const isRamThere = ramBytes === undefined || ramBytes === reading.ramBytes;
  return isRamThere && (pluggedBytes === undefined || pluggedBytes === reading.pluggedBytes);
}

function totalOf({ spec }: LiveVm, { ramBytes, pluggedBytes }: MemoryReading): number {
  return (ramBytes ?? spec.memory.bytes) + (pluggedBytes ?? 0);
}

function superseded(vm: string, bytes: number): FairleadError {
  return new FairleadError('CONFLICT', `this resize of the memory of VM ${vm} was replaced by one to ${mib(bytes)}`);
}

function unresponsive({ vm, bytes, before }: Following, actualBytes: number, afterMs: number): FairleadError {
  const startBytes = totalOf(vm, before);
  const verb = bytes < startBytes ? 'give up' : 'take';
  const lacks = bytes < startBytes ? 'it may need the memory itself, or lack the driver' : 'it may lack the driver';
  const state = vm.state === 'running' ? '' : ` (the VM is ${vm.state})`;
  return new FairleadError(
    'GUEST_UNRESPONSIVE',
    `the guest of VM ${vm.name} did not ${verb} the memory that it was asked to: it has ${mib(actualBytes)} of the ${mib(bytes)} wanted, ` +
      `had ${mib(startBytes)} at first, and changed nothing for ${Math.round(afterMs)} ms${state}: ${lacks}`,
    { details: { vm: vm.name, targetBytes: bytes, actualBytes, startBytes } },
  );
}
