/**
 * What a suspended guest goes on from, as a launch is given it (incoming.ts): its machine as it was, its RAM where it is, its device state
 * once that has been checked.
 */
import { FairleadError } from '../../../shared/errors.ts';
import { failpoint } from '../../failpoint.ts';
import { runCommand } from '../../qmp/commands.ts';
import type { CommandLimits } from '../live-vm.ts';
import type { Session } from '../session.ts';
import type { ProcessRecord, VmPaths } from '../store.ts';
import { cpusOf } from './abi-here.ts';
import { ignoreSharedRam, loadDeviceState, type MigratingVm, readDeviceState } from './device-state.ts';
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
  /** The commit point: makes durable that the state is used up, and in which process. */
  readonly commit: (process: ProcessRecord, generation: number) => Promise<void>;
}

/** @throws FairleadError WRONG_STATE where what was saved is not there any more, UNSUPPORTED for another QEMU. */
export async function incomingOf({ vm, suspension, paths, commit, ...now }: ResumeParts): Promise<Incoming> {
  const { machine, accelerator, ports, qemuVersion } = suspension;
  if (qemuVersion !== now.qemuVersion && !now.isUntestedAllowed) {
    const message = `VM ${vm} was suspended by QEMU ${qemuVersion}, and this host has ${now.qemuVersion} by now`;
    throw new FairleadError(
      'UNSUPPORTED',
      `${message}: put the other one back, or let the host's owner allow it with untestedSuspend`,
      { details: { vm, saved: qemuVersion, now: now.qemuVersion } },
    );
  }
  const state = await readDeviceState(vm, paths.deviceState, suspension.deviceState);
  await checkRamFiles(vm, suspension.ram);
  await checkDiskFiles(vm, suspension.disks);
  return {
    ram: { kind: 'kept' },
    facts: { machine, accelerator, ports },
    async load(session, limits) {
      await failpoint('resume.spawned');
      await loadInto(session, state, paths.runDir, limits);
      await failpoint('resume.loaded');
    },
    async commit(process, generation) {
      await requireSameMachine(vm, suspension.abi, process);
      await commit(process, generation);
      await failpoint('resume.committed');
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

async function loadInto(session: Session, state: Buffer, runDir: string, limits: CommandLimits): Promise<void> {
  const vm: MigratingVm = {
    name: session.vm,
    signal: session.signal,
    execute: (command, args, { signal, remainingMs }) =>
      runCommand(session.qmp, command, args, { signal, timeoutMs: remainingMs }),
    listen: (options) => session.qmp.listen(options),
  };
  await ignoreSharedRam(vm, true, limits);
  await loadDeviceState(vm, state, { runDir, limits });
  // A later migration to elsewhere must take the RAM along.
  await ignoreSharedRam(vm, false, limits);
}
