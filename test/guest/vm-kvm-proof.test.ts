/** The proof of KVM is a guest that leaves by itself; that it does so is shown with the emulator. */
import { mkdtemp, rmdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { runBootSector } from '../../agent/vm/host/kvm-proof.ts';
import { testQemu } from '../support/qemu.ts';

const { binary, missing } = testQemu();
if (missing !== undefined) console.warn(`skipped: ${missing}`);

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'fl-proof-'));
});
afterEach(async () => {
  // Fails where something was left in it.
  await rmdir(directory);
});

const prove = (binary: string, timeoutMs: number) => runBootSector({ binary, directory, accelerator: 'tcg', timeoutMs });

test.skipIf(missing !== undefined)('a boot sector runs to its end and says so', async () => {
  expect(await prove(binary, 60_000)).toEqual({ proven: true });
});

test.skipIf(missing !== undefined)('a guest that does not get there in time proves nothing', async () => {
  expect(await prove(binary, 1)).toEqual({
    proven: false,
    reason: 'a test guest under tcg did not run to its end: it was still running after 1 ms',
  });
});

test('a program that is no QEMU proves nothing', async () => {
  expect(await prove('/bin/false', 5_000)).toEqual({
    proven: false,
    reason: 'a test guest under tcg did not run to its end: QEMU ended with code 1',
  });
});
