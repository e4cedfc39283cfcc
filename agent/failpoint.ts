/**
 * Named places at which a test may kill the agent: one after each step that changes the disk or QEMU.
 *
 *     await failpoint('start.spawned');
 *
 * does nothing, unless the variable FAIRLEAD_FAILPOINT has that name. Then the agent says on standard error that it has arrived, in one
 * line of JSON `{"failpoint":"start.spawned"}`, and goes no further: whoever set the variable kills it there from outside, which leaves
 * what a crash at this very step leaves. Only the caller waits; what runs beside it goes on.
 */
import { writeSync } from 'node:fs';
import { FairleadError } from '../shared/errors.ts';

/** Grouped by command; the comment says what a crash there leaves. */
export const FAILPOINTS = [
  // Around every command that is journalled.
  'journal.accepted', // durable that it was accepted; it has not begun
  'journal.done', // it has run to its end; the journal does not know
  'journal.finished', // durable how it ended; nobody was told

  'create.directory-made', // a directory without a record
  'create.recorded', // the VM is on disk; nobody was told

  'start.begun', // nothing has changed
  'start.recorded', // the record says `starting`; sockets and vsock device are there, no process
  'start.spawned', // a process that is in no record
  'start.process-recorded', // the record names the process; its guest has not run yet
  'start.resumed', // the guest runs; the record says `starting`

  'stop.begun', // nothing has changed
  'stop.recorded', // the record says that a stop is under way; the process has not been asked yet
  'stop.process-ended', // no process; the record says that there is one
  'stop.end-recorded', // the record says how it ended; sockets and vsock device are left
  'stop.cleaned', // nothing is left; nobody was told

  'delete.begun', // nothing has changed
  'delete.process-ended', // a forced one has ended the process; record and files are there
  'delete.record-removed', // a directory without a record
  'delete.files-removed', // nothing is left; nobody was told

  'attach.begun', // nothing has changed
  'attach.recorded', // the record has the device; QEMU has nothing of it
  'attach.backend-added', // QEMU has the block node, netdev or chardev, and no device
  'attach.device-added', // QEMU has the device too; nobody was told

  'detach.begun', // nothing has changed
  'detach.asked', // the guest was asked to let go of it
  'detach.device-gone', // the guest has let go; backend and record still have it
  'detach.backend-removed', // QEMU has nothing of it; the record does
  'detach.recorded', // the record has it no more; nobody was told

  'snapshot.intended', // a draft that says what to put right; the VM is as it was
  'snapshot.unplugged', // the guest has let go of what cannot be saved
  'snapshot.stopped', // and stands still
  'snapshot.state-saved', // devices, and with mode stream memory, are in the draft
  'snapshot.copied', // disks and RAM files are, too; the guest still stands still
  'snapshot.resumed', // the guest goes on, without what it let go of
  'snapshot.sealed', // the VM is as it was; the draft has no manifest
  'snapshot.kept', // there is a snapshot; nobody was told

  'clone.begun', // durable which clones are to be made; none is there
  'clone.created', // a clone is there, without its disks, and nothing says that it is one
  'clone.running', // a clone runs; others may not be there yet
  'clone.finished', // all of them run; nobody was told

  'disk.copying', // what is below an image is being copied into it, or about to be
  'disk.based', // the image stands on something else, or nothing; nobody was told

  'suspend.begun', // nothing has changed
  'suspend.recorded', // the record says that a suspend is under way; the guest runs
  'suspend.vsock-unplugged', // the guest has let go of its vsock, and runs
  'suspend.paused', // the guest does not run; nothing is saved
  'suspend.saved', // all of it is on disk; the record does not say so
  'suspend.committed', // it is suspended; its process is still there
  'suspend.process-ended', // no process; the record may still name one

  'resume.begun', // nothing has changed
  'resume.spawned', // a process that is in no record, with nothing loaded
  'resume.loaded', // it could go on there; the record says that it is suspended
  'resume.committed', // what was saved is used up; the guest has not run yet
  'resume.running', // the guest runs; nobody was told

  'discard.recorded', // a guest that slept is given up; its RAM is there

  'update.unpacked', // another release is on disk; the one that runs has not been told to leave
  'update.staged', // durable that the other one is to be tried; the old one still runs
  'update.healthy', // the new one runs and has a line; the launcher does not know
  'update.kept', // durable that it stays; the command has no end in the journal yet

  'restore.loaded', // a process has the saved guest, which has not run; the record has the spec of before
  'restore.spec-recorded', // and of the snapshot
] as const;
export type Failpoint = (typeof FAILPOINTS)[number];

const VARIABLE = 'FAIRLEAD_FAILPOINT';
const ARMED = readArmed(process.env[VARIABLE]);

/** The agent's standard error. */
const STDERR_FD = 2;
/** Longer than any test, and short enough for a timer. */
const HOLD_MS = 2_000_000_000;

/** Next to free where it is not armed, and never settles where it is. */
export async function failpoint(name: Failpoint): Promise<void> {
  if (name !== ARMED) return;
  writeSync(STDERR_FD, `${JSON.stringify({ failpoint: name })}\n`);
  // A pending promise alone would let the process end.
  setInterval(() => {}, HOLD_MS);
  await new Promise<never>(() => {});
}

/** @throws FairleadError INVALID_PARAMS for a name that no place has: a test that waits for it would wait for ever. */
function readArmed(value: string | undefined): Failpoint | undefined {
  if (value === undefined || value === '') return undefined;
  const name = FAILPOINTS.find((known) => known === value);
  if (name === undefined) throw new FairleadError('INVALID_PARAMS', `${VARIABLE}: there is no failpoint ${value}`);
  return name;
}
