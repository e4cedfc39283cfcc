/**
 * A file system may take less of a write than it was given, as one does that is nearly full, and fails at the next. Where the last piece of a
 * guest's device state was taken so, a suspend ended the process with a state on disk from which the guest could not go on.
 */
import { randomBytes } from 'node:crypto';
import { type FileHandle, mkdtemp, open, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { type MigratingVm, readDeviceState, saveDeviceState } from '../../agent/vm/snapshot/device-state.ts';

const STATE = randomBytes(300 * 1024);
/** Of each write, at most. */
const TAKEN_BYTES = 10_000;
const FULL = Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });

test('a state is there whole where each write takes less than it is given', async () => {
  await using disk = await diskWithRoom(Number.POSITIVE_INFINITY);
  const sum = await disk.save();
  expect(await readDeviceState('web', disk.path, sum)).toEqual(STATE);
});

test('a save fails where there is room for all but the last byte', async () => {
  await using disk = await diskWithRoom(STATE.length - 1);
  await expect(disk.save()).rejects.toThrow(/ENOSPC/);
});

async function diskWithRoom(roomBytes: number) {
  const directory = await mkdtemp(join(tmpdir(), 'fl-parts-'));
  await takeParts(directory, roomBytes);
  const path = join(directory, 'state');
  const limits = { signal: AbortSignal.timeout(30_000), remainingMs: 30_000 };
  return {
    path,
    save: () => saveDeviceState(sending(STATE), path, { runDir: directory, limits, owner: undefined, durable: false }),
    async [Symbol.asyncDispose]() {
      vi.restoreAllMocks();
      await rm(directory, { recursive: true });
    },
  };
}

/** Writes through any file handle of this process, until the end of the test. */
async function takeParts(directory: string, roomBytes: number): Promise<void> {
  await using some = await open(join(directory, 'some'), 'w');
  // SAFETY: of a file handle.
  const prototype = Object.getPrototypeOf(some) as FileHandle;
  const { write } = prototype;
  let takenBytes = 0;
  vi.spyOn(prototype, 'write').mockImplementation(async function takeSome(
    this: FileHandle,
    buffer: unknown,
    offset: unknown = 0,
  ) {
    const from = Number(offset);
    // SAFETY: nothing in what is tested writes a string.
    const bytes = buffer as Buffer;
    const length = Math.min(bytes.length - from, TAKEN_BYTES, roomBytes - takenBytes);
    if (length === 0) throw FULL;
    takenBytes += length;
    return Reflect.apply(write, this, [bytes, from, length]);
  });
}

/** A QEMU whose guest has that state. */
function sending(state: Buffer): MigratingVm {
  const events = { take: async () => ({ data: { status: 'completed' } }), [Symbol.dispose]() {} };
  const execute = async (command: string, args: { uri?: string }): Promise<object> => {
    if (command === 'migrate') connect({ path: (args.uri ?? '').replace('unix:', '') }).end(state);
    return {};
  };
  // SAFETY: as much of it as a save asks for.
  return { name: 'web', signal: new AbortController().signal, execute, listen: () => events } as unknown as MigratingVm;
}
