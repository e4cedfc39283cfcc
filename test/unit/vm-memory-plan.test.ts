import { expect, test } from 'vitest';
import { planMemory } from '../../agent/vm/memory/memory-plan.ts';
import { spec } from '../support/vm.ts';

const MIB = 1024 ** 2;
const grows = spec({ name: 'web', memory: { bytes: '256MiB', maxBytes: '1GiB' } });
const stays = spec({ name: 'web', memory: { bytes: '256MiB' } });
const both = { ramBytes: 256 * MIB, pluggedBytes: 0, blockBytes: 2 * MIB };
const balloonAlone = { ...both, pluggedBytes: undefined };
const neither = { ...balloonAlone, ramBytes: undefined };

test.each([
  ['the balloon takes what is below the size at the start', grows, 100, both, 100, 0],
  ['both are empty at the size of the start', grows, 256, both, 256, 0],
  ['the memory device has what is above it', grows, 1024, both, 256, 768],
  ['a VM without a memory device has its balloon', stays, 100, balloonAlone, 100, undefined],
  ['a VM with neither keeps its size', stays, 256, neither, undefined, undefined],
])('%s', (_rule, of, mib, reading, ramMib, pluggedMib) => {
  const inBytes = (value: number | undefined) => (value === undefined ? undefined : value * MIB);
  expect(planMemory(of, mib * MIB, reading)).toEqual({ ramBytes: inBytes(ramMib), pluggedBytes: inBytes(pluggedMib) });
});

test.each([
  ['beyond its most', grows, 1025 * MIB, both, 'INVALID_PARAMS', 'memory.maxBytes is 1024MiB'],
  ['beyond its start, where that is all', stays, 257 * MIB, balloonAlone, 'UNSUPPORTED', 'no memory.maxBytes'],
  ['between two blocks', grows, 257 * MIB, both, 'INVALID_PARAMS', 'such as to 258MiB'],
  ['between two MiB', grows, 100 * MIB + 1, both, 'INVALID_PARAMS', 'whole number of MiB'],
  ['below its start without a balloon', stays, 100 * MIB, neither, 'UNSUPPORTED', 'without a balloon'],
])('a size %s is refused', (_rule, of, bytes, reading, code, words) => {
  const plan = () => planMemory(of, bytes, reading);
  expect(plan).toThrow(expect.objectContaining({ code, message: expect.stringContaining(words) }));
});
