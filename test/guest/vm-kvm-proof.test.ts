/** The proof of KVM is a guest that leaves by itself; that it does so is shown with the emulator. */
import { mkdtemp, rmdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { runTestGuest } from '../../agent/vm/host/kvm-proof.ts';
import { artefacts } from '../../cli/image/cache.ts';
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

const prove = (binary: string, timeoutMs: number) => runTestGuest({ binary, directory, accelerator: 'tcg', timeoutMs });

test.skipIf(missing !== undefined)('a boot sector runs to its end and says so', async () => {
  expect(await prove(binary, 60_000)).toEqual({ proven: true });
});

const { arm64 } = artefacts();
if (arm64 === undefined) console.warn('skipped: QEMU for arm64 is not in the cache: npm run setup test');

test.skipIf(arm64 === undefined)('so does one for arm64, in flash', async () => {
  const qemu = arm64?.qemu ?? '';
  expect(await runTestGuest({ binary: qemu, directory, accelerator: 'tcg', arch: 'arm64', timeoutMs: 60_000 })).toEqual({
    proven: true,
  });
  expect(await runTestGuest({ binary: qemu, directory, accelerator: 'tcg', arch: 'x64', timeoutMs: 60_000 })).toMatchObject({
    proven: false,
  });
});

test('there is none for an architecture that nobody has tried', async () => {
  expect(await runTestGuest({ binary: '/bin/true', directory, arch: 'mips' })).toMatchObject({ proven: false });
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
