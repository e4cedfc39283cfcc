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
import { MEMORY_DEVICE, MEMORY_EVENTS, type MemoryReading, readMemory } from './memory-gauge.ts';
import { type MemoryPlan, mib, planMemory } from './memory-plan.ts';

/** A virtio-mem driver that could not free a block tries again after some seconds (Linux: 5), and QEMU tells of it up to 1 s later. */
const STALL_MS = 10_000;
/** Kept of the caller's time for the answer that says how far the guest got. */
const ANSWER_MS = 500;
const QUERY_MS = 5_000;

export interface ResizeOptions extends CallOptions {
  readonly onProgress?: ((reading: { targetBytes: number; actualBytes: number }) => void) | undefined;
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
      this.#waiting.get(name)?.abort(superseded(name, bytes));
      using events = vm.listen({ names: MEMORY_EVENTS });
      await ask(vm, plan, before, deadline);
      if (!wait) return { targetBytes: bytes, actualBytes: totalOf(vm, before) };

      const waiting = new AbortController();
      this.#waiting.set(name, waiting);
      try {
        return await follow({ vm, plan, bytes, before, events, deadline, replaced: waiting.signal, options });
      } finally {
        if (this.#waiting.get(name) === waiting) this.#waiting.delete(name);
      }
    });
  }
}

interface Following {
  readonly vm: LiveVm;
  readonly plan: MemoryPlan;
  readonly bytes: number;
  readonly before: MemoryReading;
  readonly events: ReturnType<LiveVm['listen']>;
  readonly deadline: Deadline;
  readonly replaced: AbortSignal;
  readonly options: ResizeOptions;
}

async function follow(following: Following): Promise<ResizeResult> {
  const { vm, plan, bytes, events, deadline, replaced, options } = following;
  const { stallMs = STALL_MS, onProgress } = options;
  const signal = AbortSignal.any([deadline.signal, vm.signal, replaced]);
  // What changed between the first reading and the listener is in this one.
  let reading = await read(vm, deadline);
  while (!isThere(reading, plan)) {
    const timeoutMs = Math.max(0, Math.min(stallMs, deadline.remainingMs - ANSWER_MS));
    try {
      const { name, data } = await events.take({ timeoutMs, signal });
      if (name === 'BALLOON_CHANGE') reading = { ...reading, ramBytes: Number(data['actual']) };
      else if (data['id'] === MEMORY_DEVICE) reading = { ...reading, pluggedBytes: Number(data['size']) };
    } catch (error) {
      signal.throwIfAborted();
      if (!isFairleadError(error) || error.code !== 'TIMEOUT') throw error;
      reading = await read(vm, deadline);
      if (!isThere(reading, plan)) throw unresponsive(following, totalOf(vm, reading), timeoutMs);
    }
    onProgress?.({ targetBytes: bytes, actualBytes: totalOf(vm, reading) });
  }
  return { targetBytes: bytes, actualBytes: totalOf(vm, reading) };
}

async function ask(vm: LiveVm, plan: MemoryPlan, before: MemoryReading, deadline: Deadline): Promise<void> {
  const { ramBytes, pluggedBytes } = plan;
  const path = `/machine/peripheral/${MEMORY_DEVICE}`;
  await Promise.all([
    ramBytes === undefined ? undefined : vm.execute('balloon', { value: ramBytes }, deadline),
    pluggedBytes === undefined || pluggedBytes === before.requestedBytes
      ? undefined
      : vm.execute('qom-set', { path, property: 'requested-size', value: pluggedBytes }, deadline),
  ]);
}

function read(vm: LiveVm, { signal, remainingMs }: Deadline): Promise<MemoryReading> {
  const limits = { signal, remainingMs: Math.min(remainingMs, QUERY_MS) };
  return readMemory((command, args) => vm.execute(command, args, limits));
}

function isThere(reading: MemoryReading, plan: MemoryPlan): boolean {
  return reading.ramBytes === plan.ramBytes && reading.pluggedBytes === plan.pluggedBytes;
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
