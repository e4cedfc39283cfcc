/**
 * What a disk's image has below it, copied into it by QEMU while the guest goes on:
 *
 *     begin ──▶ created … running … ──▶ concluded ── dismissed ──▶ gone: the image stands on `base`, or on nothing
 *                  └── error, cancel ──▶ concluded ── dismissed ──▶ gone: it stands on what it stood on; what was copied stays
 *
 * The job is QEMU's: it goes on when the agent dies, and whoever asks for it once more finds it by its name and waits for it. Until it is
 * over its image is being written to beside the guest, so nothing else that reads or lets go of it may begin (`requireNoPull`).
 */
import { FairleadError, toFairleadError } from '../../../shared/errors.ts';
import type { QmpResult } from '../../qmp/commands.ts';
import type { QmpListener } from '../../qmp/events.ts';
import { Deadline } from '../deadline.ts';
import type { CommandLimits, LiveVm } from '../live-vm.ts';

export interface PullProgress {
  readonly doneBytes: number;
  readonly totalBytes: number;
}

type Job = QmpResult<'query-jobs'>[number];

const PREFIX = 'pull-';
const LOOK_MS = 500;
const CANCEL_MS = 10_000;
/** Of QEMU, for a job that was cancelled. */
const CANCELLED = /cancel/i;

/** Follows one that is under way already. @throws FairleadError QMP_FAILED */
export async function beginPull(
  vm: LiveVm,
  { disk, base, bytesPerSecond }: { disk: string; base: string | undefined; bytesPerSecond: number },
  limits: CommandLimits,
): Promise<void> {
  const job = await jobOf(vm, disk, limits);
  if (job !== undefined && job.status !== 'concluded') return;
  // Of somebody who is gone: how it ended shows in the image.
  if (job !== undefined) await dismiss(vm, disk, limits);
  const begin = { 'job-id': nameOf(disk), device: `${disk}-format`, speed: bytesPerSecond, 'auto-dismiss': false };
  await vm.execute('block-stream', { ...begin, ...(base === undefined ? {} : { base }) }, limits);
}

/**
 * Until it is over. When the limits end before, it is cancelled; not so when the agent leaves.
 * @param events from before it began. @throws FairleadError STORAGE_FAILED with QEMU's reason, CANCELLED, or why the limits ended.
 */
export async function followPull(
  vm: LiveVm,
  disk: string,
  { events, deadline, onProgress }: { events: QmpListener; deadline: Deadline; onProgress: (progress: PullProgress) => void },
): Promise<void> {
  try {
    for (;;) {
      const job = await jobOf(vm, disk, deadline);
      // Another follower was first.
      if (job === undefined) return;
      onProgress({ doneBytes: job['current-progress'], totalBytes: job['total-progress'] });
      if (job.status === 'concluded') {
        await dismiss(vm, disk, deadline);
        if (job.error !== undefined) throw failed(vm.name, disk, job.error);
        return;
      }
      await nextChange(events, deadline);
    }
  } catch (error) {
    if (deadline.signal.aborted && !vm.signal.aborted) await cancel(vm, disk, events);
    throw error;
  }
}

/** Of one disk, or of any; what is left of one that nobody followed goes. @throws FairleadError CONFLICT while there is one. */
export async function requireNoPull(vm: LiveVm, limits: CommandLimits, disk?: string): Promise<void> {
  const jobs = await vm.execute('query-jobs', {}, limits);
  for (const { id, status } of jobs) {
    if (status === 'concluded' && id.startsWith(PREFIX)) await dismiss(vm, id.slice(PREFIX.length), limits);
  }
  const job = jobs.find(
    ({ id, status }) => status !== 'concluded' && (disk === undefined ? id.startsWith(PREFIX) : id === nameOf(disk)),
  );
  if (job === undefined) return;
  const which = job.id.slice(PREFIX.length);
  throw new FairleadError('CONFLICT', `disk ${which} of VM ${vm.name} is being flattened or rebased: wait for it, or cancel it`, {
    details: { vm: vm.name, disk: which },
  });
}

function nameOf(disk: string): string {
  return `${PREFIX}${disk}`;
}

async function jobOf(vm: LiveVm, disk: string, limits: CommandLimits): Promise<Job | undefined> {
  return (await vm.execute('query-jobs', {}, limits)).find(({ id }) => id === nameOf(disk));
}

/** Whoever follows beside may have done it. */
async function dismiss(vm: LiveVm, disk: string, limits: CommandLimits): Promise<void> {
  try {
    await vm.execute('job-dismiss', { id: nameOf(disk) }, limits);
  } catch (error) {
    if (toFairleadError(error).code !== 'QMP_FAILED') throw error;
  }
}

/** The next event, or a little while: whatever happened, QEMU is asked then. */
async function nextChange(events: QmpListener, { signal }: CommandLimits): Promise<void> {
  try {
    await events.take({ timeoutMs: LOOK_MS, signal });
  } catch (error) {
    signal.throwIfAborted();
    if (toFairleadError(error).code !== 'TIMEOUT') throw error;
  }
}

/** The caller is gone; a QEMU that does not answer any more has been told all the same. */
async function cancel(vm: LiveVm, disk: string, events: QmpListener): Promise<void> {
  using deadline = new Deadline(`cancelling the copy into disk ${disk}`, { timeoutMs: CANCEL_MS, signal: vm.signal });
  try {
    await vm.execute('job-cancel', { id: nameOf(disk) }, deadline);
    for (;;) {
      const job = await jobOf(vm, disk, deadline);
      if (job === undefined) return;
      if (job.status === 'concluded') return await dismiss(vm, disk, deadline);
      await nextChange(events, deadline);
    }
  } catch {
    // It is over, or goes on and is found by the next who asks; the caller is told why it was given up.
  }
}

function failed(vm: string, disk: string, why: string): FairleadError {
  const stays = `disk ${disk} of VM ${vm} stands on what it stood on`;
  if (CANCELLED.test(why)) return new FairleadError('CANCELLED', `${stays}: the copy into it was cancelled`);
  return new FairleadError('STORAGE_FAILED', `${stays}: ${why}`, { details: { vm, disk } });
}
