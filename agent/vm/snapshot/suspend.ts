/**
 * A running guest, put on disk so that its process can end: its RAM is in a file already and stays there, so only the state of its devices
 * has to be written.
 *
 *     streams reset → vsock let go of (vhost-user alone) → CPUs stopped → device state saved and hashed → both on the disk (host)
 *
 * Nothing here is the end of anything: `unsaveGuest` lets the guest go on from any of these steps.
 */
import { rm } from 'node:fs/promises';
import { FairleadError, toFairleadError } from '../../../shared/errors.ts';
import type { VmSpec } from '../../../shared/protocol/vm-spec.ts';
import { MACHINE_FEATURES } from '../../../shared/protocol/vm-spec-machines.ts';
import { failpoint } from '../../failpoint.ts';
import { portsOf } from '../argv/slots.ts';
import { syncDirectory } from '../atomic-file.ts';
import { Deadline, settleAll } from '../deadline.ts';
import { answerOf, askToDetach, listenForLeave, refused } from '../devices/detach.ts';
import { reconcileDevices } from '../devices/reconcile.ts';
import { LEAVING_VSOCK } from '../devices/vsock.ts';
import type { CommandLimits, LiveVm } from '../live-vm.ts';
import { cancelMigration } from '../migration/cancel-migration.ts';
import { isOver, readMigration } from '../migration/migration-status.ts';
import { ignoreSharedRam, saveDeviceState } from './device-state.ts';
import { identifyDiskFiles } from './disk-file.ts';
import type { GuestAbi } from './guest-abi.ts';
import type { MachineFacts } from './incoming.ts';
import { requireNoPull } from './pull-job.ts';
import { type FileOwner, identifyRamFiles, requireDisk, syncRamFiles } from './ram-file.ts';
import type { Durability, Suspension } from './suspension.ts';
import { requireTestedQemu } from './tested-qemu.ts';
import { requireThawed } from './thawed.ts';

export interface SaveOptions {
  readonly durability: Durability;
  readonly bootId: string;
  readonly owner: FileOwner | undefined;
  readonly deadline: Deadline;
  /** Of the guest as it is saved. */
  readonly abiOf: (spec: VmSpec, facts: MachineFacts) => Promise<GuestAbi>;
  /** Called before the guest is asked to let go of its vsock: what is to be given back to it has to be durable. */
  readonly onUnplug: () => Promise<void>;
}

/** For streams that end by a suspend; a stream opened anew wakes the VM. */
const WHY_RESET = 'the VM was suspended';
const DETAILS_OF_RESET = { reset: 'SUSPENDED' } as const;

/** A guest that has not let go of a device by then is booting, or busy with itself. */
const UNPLUG_MS = 15_000;
/** A cancelled migration only has to close what is open. */
const UNSAVE_MS = 15_000;

/** What can be told before anything is touched. @throws FairleadError UNSUPPORTED, CONFLICT */
export async function requireSuspendable(
  vm: LiveVm,
  { durability, isUntestedAllowed, limits }: { durability: Durability; isUntestedAllowed: boolean; limits: CommandLimits },
): Promise<void> {
  const { name, spec, process } = vm;
  const refuse = (why: string): never => {
    throw new FairleadError('UNSUPPORTED', `VM ${name} cannot be suspended: ${why}`, { details: { vm: name } });
  };
  if (spec.memory.backing !== 'file') refuse('its RAM is in no file; set memory.backing to file, and stop and start it');
  if (!hasOwnRam(process.argv))
    refuse('its RAM is that of a snapshot, which it shares; stop and start it, or clone it without sharing');
  if (spec.pciDevices.length > 0) refuse('the state of devices that are passed through to it cannot be saved');
  if (hasUnsavableVsock(vm) && !MACHINE_FEATURES[spec.machine].hotplug) {
    refuse(`its vsock would have to be taken away meanwhile, and a ${spec.machine} cannot let go of devices`);
  }
  requireTestedQemu(name, process.qemuVersion, isUntestedAllowed);
  if (durability === 'host') await requireDisk(name, await identifyRamFiles(spec, vm.paths));
  await requireThawed(vm, 'suspended');
  await requireNoPull(vm, limits);
  const { status } = await readMigration(vm, limits);
  if (isOver(status)) return;
  throw new FairleadError('CONFLICT', `VM ${name} is being migrated (${status}): wait for it, or cancel it`, {
    details: { vm: name },
  });
}

/** @throws FairleadError GUEST_UNRESPONSIVE when the guest keeps its vsock, UNSUPPORTED, QMP_FAILED, or errors of the file system. */
export async function saveGuest(vm: LiveVm, options: SaveOptions): Promise<Suspension> {
  const { deadline, durability, bootId, owner, abiOf } = options;
  if (hasUnsavableVsock(vm)) await unplugVsock(vm, options);
  else await vm.vsock.quiet(WHY_RESET, DETAILS_OF_RESET);
  await failpoint('suspend.vsock-unplugged');

  vm.device?.guestChanged('paused');
  // One after the other in QEMU, without a round trip between.
  await settleAll([
    vm.execute('stop', {}, deadline),
    requirePaused(vm, deadline),
    ignoreSharedRam(vm, true, deadline),
    requireMigratable(vm, deadline),
  ]);
  await failpoint('suspend.paused');

  const { paths, process } = vm;
  // What is lost with the host anyway need not be on the disk.
  const durable = durability === 'host';
  const deviceState = await saveDeviceState(vm, paths.deviceState, { runDir: paths.runDir, limits: deadline, owner, durable });
  if (durable) await syncDirectory(paths.dir);
  const ram = await identifyRamFiles(vm.spec, paths);
  if (durability === 'host') await syncRamFiles(vm.name, ram);
  const disks = await identifyDiskFiles(vm.spec);
  const { argv, accelerator, qemuVersion } = process;
  const facts = { machine: machineOf(argv), accelerator, ports: portsOf(argv) };
  const abi = await abiOf(vm.spec, facts);
  deadline.signal.throwIfAborted();
  return { at: new Date().toISOString(), durability, bootId, ...facts, qemuVersion, deviceState, ram, disks, abi };
}

/**
 * The guest goes on in the process that it is in, as far as that answers; the vsock is not given back here. What it was sent and did not
 * answer in time it does when it can.
 */
export async function unsaveGuest(vm: LiveVm): Promise<void> {
  using deadline = new Deadline(`letting VM ${vm.name} go on`, { timeoutMs: UNSAVE_MS, signal: vm.signal });
  await cancelMigration(vm, deadline);
  await ignoreSharedRam(vm, false, deadline);
  const { status } = await vm.execute('query-status', {}, deadline);
  // One that has panicked or lost its disk meanwhile stays as it is.
  if (status === 'paused' || status === 'postmigrate') await vm.execute('cont', {}, deadline);
  vm.device?.guestChanged('resumed');
  await rm(vm.paths.deviceState, { force: true });
}

/** A clone may have been started on the file of its snapshot, copy on write: what it wrote is in no file. */
function hasOwnRam(argv: readonly string[]): boolean {
  return argv.some(
    (argument) => argument.startsWith('{') && argument.includes('"id":"ram0"') && argument.includes('"share":true'),
  );
}

/** A vhost-user device keeps state of the guest in another process, which QEMU cannot save. */
function hasUnsavableVsock({ spec, process }: LiveVm): boolean {
  return spec.vsock !== undefined && process.vsock?.kind !== 'vhost-vsock';
}

/** @throws FairleadError GUEST_UNRESPONSIVE */
export async function unplugVsock(vm: LiveVm, { deadline, onUnplug }: Pick<SaveOptions, 'deadline' | 'onUnplug'>): Promise<void> {
  using events = listenForLeave(vm, LEAVING_VSOCK.id);
  const leaving = { ...LEAVING_VSOCK, prepare: () => vm.vsock.quiet(WHY_RESET, DETAILS_OF_RESET) };
  await onUnplug();
  using limit = new Deadline(`taking the vsock from VM ${vm.name}`, {
    timeoutMs: Math.min(UNPLUG_MS, deadline.remainingMs),
    signal: deadline.signal,
  });
  const isAsked = await askToDetach(vm, leaving, limit).catch((error: unknown) => {
    // QEMU refuses to ask a second time for some seconds; that the guest has been asked by an agent that died is as good.
    if (toFairleadError(error).code === 'QMP_FAILED') return true;
    throw error;
  });
  if (isAsked) {
    const answer = await answerOf(vm, leaving.what, events, limit);
    if (answer === 'refused') throw refused(vm, leaving.what);
  }
  await reconcileDevices(vm, deadline);
}

async function requirePaused(vm: LiveVm, limits: CommandLimits): Promise<void> {
  const { status } = await vm.execute('query-status', {}, limits);
  if (status === 'paused') return;
  throw new FairleadError('WRONG_STATE', `VM ${vm.name} cannot be suspended: its guest is ${status}`, {
    details: { vm: vm.name, runState: status },
  });
}

async function requireMigratable(vm: LiveVm, limits: CommandLimits): Promise<void> {
  const { blockedBy } = await readMigration(vm, limits);
  if (blockedBy.length === 0) return;
  throw new FairleadError('UNSUPPORTED', `VM ${vm.name} cannot be suspended, says its QEMU: ${blockedBy.join('; ')}`, {
    details: { vm: vm.name, blockedBy },
  });
}

/** The machine's name stands first among its properties. */
function machineOf(argv: readonly string[]): string {
  const [name = ''] = (argv[argv.indexOf('-machine') + 1] ?? '').split(',');
  return name;
}
