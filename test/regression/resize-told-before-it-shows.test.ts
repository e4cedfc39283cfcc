/**
 * Symptom: `vm get` told the old size of a guest's memory for up to a second after `vm.resizeMemory` had answered that it has the new one.
 * Cause: the answer was read from QEMU, and what is told of a VM came from QEMU's events alone, of which there is one a second.
 */
import { expect, test } from 'vitest';
import { Deadline } from '../../agent/vm/deadline.ts';
import type { LiveVm } from '../../agent/vm/live-vm.ts';
import { type Ask, MemoryGauge } from '../../agent/vm/memory/memory-gauge.ts';
import { MemoryResizer } from '../../agent/vm/memory/resize-memory.ts';
import { spec } from '../support/vm.ts';

const MIB = 1024 ** 2;
const BALLOON_CHANGE = { name: 'BALLOON_CHANGE', timestamp: { seconds: 0, microseconds: 0 } } as const;

/** A guest that follows before QEMU is asked whether it has, and a QEMU that has not told of it. */
function promptGuest() {
  const memory = new MemoryGauge();
  let actual = 256 * MIB;
  const execute = async (command: string, args: { value?: number }): Promise<unknown> => {
    if (command === 'balloon') actual = args.value ?? actual;
    return command === 'query-balloon' ? { actual } : [];
  };
  const listen = () => ({ take: () => new Promise(() => {}), [Symbol.dispose]() {} });
  const { signal } = new AbortController();
  // SAFETY: nothing else of a VM is used by what is tested.
  const vm = {
    name: 'web',
    spec: spec({ name: 'web', memory: { bytes: 256 * MIB } }),
    memory,
    signal,
    execute,
    listen,
  } as unknown as LiveVm;
  return { vm, memory };
}

test('a resize that is answered shows in what is told of the VM, before QEMU tells of it', async () => {
  const { vm, memory } = promptGuest();
  const resizer = new MemoryResizer({
    operate: async (_name, { doing }, options, run) => {
      using deadline = new Deadline(doing, { timeoutMs: 10_000, ...options });
      return await run(vm, deadline);
    },
  });
  expect(await resizer.resize({ vm: 'web', bytes: 200 * MIB, wait: true }, {})).toMatchObject({ actualBytes: 200 * MIB });
  expect(memory.actualBytes(256 * MIB)).toBe(200 * MIB);
});

test('an answer of QEMU that an event overtook is not taken for the newest', async () => {
  const memory = new MemoryGauge();
  // SAFETY: the two commands that are given have these answers.
  const ask = (async (command: string) => {
    if (command === 'query-balloon') return { actual: 200 * MIB };
    memory.onEvent({ ...BALLOON_CHANGE, data: { actual: 240 * MIB } });
    return [];
  }) as unknown as Ask;
  expect(await memory.refresh(ask)).toMatchObject({ ramBytes: 200 * MIB });
  expect(memory.actualBytes(256 * MIB)).toBe(240 * MIB);
});
