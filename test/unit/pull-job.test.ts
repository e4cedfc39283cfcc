/** How the end of a copy into a disk's image is told, with a QEMU that is only a list of answers. */
import { describe, expect, it } from 'vitest';
import { Deadline } from '../../agent/vm/deadline.ts';
import type { LiveVm } from '../../agent/vm/live-vm.ts';
import { beginPull, followPull, requireNoPull } from '../../agent/vm/snapshot/pull-job.ts';

interface Job {
  readonly id: string;
  readonly type: string;
  readonly status: string;
  readonly 'current-progress': number;
  readonly 'total-progress': number;
  readonly error?: string;
}

const job = (status: string, more: Partial<Job> = {}): Job => {
  return { id: 'pull-data', type: 'stream', status, 'current-progress': 1, 'total-progress': 2, ...more };
};

/** Each look at the jobs finds the next of these, the last for ever. */
function vmWith(...looks: (readonly Job[])[]) {
  const given: string[] = [];
  const execute = async (command: string): Promise<unknown> => {
    if (command !== 'query-jobs') return void given.push(command);
    return looks.length > 1 ? looks.shift() : looks[0];
  };
  // SAFETY: nothing else of a VM is used by what is tested.
  const vm = { name: 'web', signal: new AbortController().signal, execute } as unknown as LiveVm;
  return { vm, given };
}

// SAFETY: likewise; every wait ends at once.
const events = { take: async () => ({}) } as unknown as Parameters<typeof followPull>[2]['events'];

async function follow(vm: LiveVm, deadline = new Deadline('flattening', {})): Promise<number[]> {
  const told: number[] = [];
  await followPull(vm, 'data', { events, deadline, onProgress: ({ doneBytes }) => told.push(doneBytes) });
  return told;
}

describe('a copy into the image of a disk', () => {
  it('is followed to its end, and leaves nothing behind', async () => {
    const { vm, given } = vmWith([job('running')], [job('concluded', { 'current-progress': 2 })]);
    expect(await follow(vm)).toEqual([1, 2]);
    expect(given).toEqual(['job-dismiss']);
  });

  it('that fails is told with the reason, and one that somebody cancelled as cancelled', async () => {
    const full = vmWith([job('concluded', { error: 'No space left on device' })]);
    await expect(follow(full.vm)).rejects.toMatchObject({
      code: 'STORAGE_FAILED',
      message: 'disk data of VM web stands on what it stood on: No space left on device',
    });
    const cancelled = vmWith([job('concluded', { error: 'Operation canceled' })]);
    await expect(follow(cancelled.vm)).rejects.toMatchObject({ code: 'CANCELLED' });
  });

  it('is over for one of two who follow it when the other has dismissed it', async () => {
    expect(await follow(vmWith([job('running')], []).vm)).toEqual([1]);
  });

  it('is cancelled, and waited for, when its caller is gone', async () => {
    const controller = new AbortController();
    using deadline = new Deadline('flattening', { signal: controller.signal });
    const { vm, given } = vmWith([job('running')], [job('running')], [job('aborting')], [job('concluded')]);
    const gone = followPull(vm, 'data', {
      events: { ...events, take: () => Promise.reject(controller.signal.reason) },
      deadline,
      onProgress: () => controller.abort(),
    });
    // The fake's `take` tells of no end of its own.
    await expect(gone).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(given.at(0)).toBe('job-cancel');
  });

  it('is joined where it is under way, and begun anew where the last one was left', async () => {
    const begin = { disk: 'data', base: undefined, bytesPerSecond: 0 };
    using limits = new Deadline('flattening', {});
    const running = vmWith([job('running')]);
    await beginPull(running.vm, begin, limits);
    expect(running.given).toEqual([]);
    const left = vmWith([job('concluded')]);
    await beginPull(left.vm, begin, limits);
    expect(left.given).toEqual(['job-dismiss', 'block-stream']);
  });

  it('keeps other things from being done to its VM, and nothing once it is over', async () => {
    using limits = new Deadline('suspending', {});
    await expect(requireNoPull(vmWith([job('running')]).vm, limits)).rejects.toMatchObject({ code: 'CONFLICT' });
    await requireNoPull(vmWith([job('running')]).vm, limits, 'other');
    const over = vmWith([job('concluded')]);
    await requireNoPull(over.vm, limits);
    expect(over.given).toEqual(['job-dismiss']);
  });
});
