/**
 * What a suspended guest goes on from, as a launch is given it (incoming.ts): its machine as it was, its RAM where it is, its device state
 * once that has been checked.
 */
import { FairleadError, toFairleadError } from '../../../shared/errors.ts';
import type { VmSpec } from '../../../shared/protocol/vm-spec.ts';
import { failpoint } from '../../failpoint.ts';
import type { Logger } from '../common.ts';
import { settleAll } from '../deadline.ts';
import { UndoList } from '../devices/plug.ts';
import { plugVsock } from '../devices/vsock.ts';
import type { CommandLimits } from '../live-vm.ts';
import type { Session } from '../session.ts';
import type { ProcessRecord, VmPaths } from '../store.ts';
import { cpusOf } from './abi-here.ts';
import { ignoreSharedRam, loadDeviceState, migratingVm, readDeviceState } from './device-state.ts';
import { checkDiskFiles } from './disk-file.ts';
import { differencesOf, type GuestAbi, guestAbiOf } from './guest-abi.ts';
import type { Incoming } from './incoming.ts';
import { checkRamFiles } from './ram-file.ts';
import type { Suspension } from './suspension.ts';

export interface ResumeParts {
  readonly vm: string;
  readonly suspension: Suspension;
  readonly paths: VmPaths;
  readonly qemuVersion: string;
  readonly isUntestedAllowed: boolean;
  /** Beside QEMU's start: all that can be done of the commit before there is one. */
  readonly prepare: (process: ProcessRecord, generation: number) => Promise<void>;
  /** The commit point: makes durable that the state is used up, and in which process. */
  readonly commit: () => Promise<void>;
  /** The vsock that the guest had to let go of, and has to get. */
  readonly owed: VmSpec['vsock'];
  /** With that. */
  readonly spec: VmSpec;
  readonly logger: Logger;
}

/** @throws FairleadError WRONG_STATE where what was saved is not there any more, UNSUPPORTED for another QEMU. */
export async function incomingOf({
  vm,
  suspension,
  paths,
  prepare,
  commit,
  owed,
  spec,
  logger,
  ...now
}: ResumeParts): Promise<Incoming> {
  const { machine, accelerator, ports, qemuVersion } = suspension;
  if (qemuVersion !== now.qemuVersion && !now.isUntestedAllowed) {
    const message = `VM ${vm} was suspended by QEMU ${qemuVersion}, and this host has ${now.qemuVersion} by now`;
    throw new FairleadError(
      'UNSUPPORTED',
      `${message}: put the other one back, or let the host's owner allow it with untestedSuspend`,
      { details: { vm, saved: qemuVersion, now: now.qemuVersion } },
    );
  }
  // Read while QEMU starts, which gets it once it is known to be what was saved.
  const state = readDeviceState(vm, paths.deviceState, suspension.deviceState);
  state.catch(() => {});
  // Before there is a QEMU: it would make a file that is gone.
  await Promise.all([checkRamFiles(vm, suspension.ram), checkDiskFiles(vm, suspension.disks)]);
  return {
    ram: { kind: 'kept' },
    facts: { machine, accelerator, ports },
    vsock: owed,
    async prepare(process, generation) {
      await requireSameMachine(vm, suspension.abi, process);
      await prepare(process, generation);
    },
    async load(session, limits) {
      await failpoint('resume.spawned');
      await loadInto(session, await state, limits);
      await failpoint('resume.loaded');
    },
    async commit() {
      await commit();
      await failpoint('resume.committed');
    },
    /** While the commit is written, nothing else is asked of QEMU, and the guest finds all of it when it goes on. */
    async meanwhile(session, limits) {
      await settleAll([
        // What it had come to was saved with it, where it can come to something else.
        spec.devices.balloon || spec.memory.maxBytes !== undefined ? session.measureMemory() : undefined,
        owed === undefined ? undefined : plugInto(session, spec, limits, logger),
      ]);
    },
    after: 'run',
  };
}

/** The spec has not changed, but what this agent makes of it may have, and so may the host's CPU. */
async function requireSameMachine(vm: string, saved: GuestAbi, { argv, qemuVersion }: ProcessRecord): Promise<void> {
  const differences = differencesOf(saved, guestAbiOf(argv, await cpusOf(qemuVersion)));
  if (differences.length === 0) return;
  const message = `VM ${vm} was suspended in another machine than it would go on in: ${differences.join('; ')}`;
  throw new FairleadError('UNSUPPORTED', message, { details: { vm, differences } });
}

async function loadInto(session: Session, state: Buffer, limits: CommandLimits): Promise<void> {
  // One after the other in QEMU, without a round trip between.
  await settleAll([ignoreSharedRam(migratingVm(session), true, limits), loadDeviceState(session, state, limits)]);
}

/** A guest without it runs all the same. */
async function plugInto(session: Session, spec: VmSpec, limits: CommandLimits, logger: Logger): Promise<void> {
  const { device } = session;
  if (device === undefined) return;
  const vm = migratingVm(session);
  const undo = new UndoList(vm);
  try {
    await undo.guard(() => plugVsock(vm, { device, spec, limits, undo }));
  } catch (error) {
    logger.error({ vm: session.vm, error: toFairleadError(error).message }, 'could not give a VM its vsock back');
    await session.useDevice(undefined);
  }
}
