/**
 * The vsock of a running VM: taken away and given anew, with a new CID. The steps are those of attach.ts; what differs is that the host's
 * side is the agent's own (a daemon, or a CID that is held by a descriptor), and that streams lead through it.
 *
 *     vhost-user    a daemon, `chardev-add` of its socket, the device on it
 *     vhost-vsock   a CID reserved, its descriptor by `getfd`, the device on that
 */
import { FairleadError } from '../../../shared/errors.ts';
import type { Params } from '../../../shared/protocol/methods.ts';
import type { VmSpec } from '../../../shared/protocol/vm-spec.ts';
import { failpoint } from '../../failpoint.ts';
import type { VsockDevice } from '../../streams/transport.ts';
import { slotPlace } from '../argv/slots.ts';
import type { Deadline } from '../deadline.ts';
import type { CommandedVm, CommandLimits, LiveVm } from '../live-vm.ts';
import { checkSpec } from '../spec-check.ts';
import type { CheckPolicy } from './attach.ts';
import type { Leaving } from './detach.ts';
import { addDevice, addPart, type Description, UndoList } from './plug.ts';
import { freeSlot, requireHotplug, uncancelled } from './ports.ts';
import { reconcileDevices, VSOCK_CHARDEV, VSOCK_ID, withoutVsock } from './reconcile.ts';
import { letThroughWhenTaken } from './vsock-driver.ts';

const FD_NAME = 'vsock0-fd';

/** @throws FairleadError CONFLICT, LIMIT_EXCEEDED, UNSUPPORTED, PROCESS_FAILED, QMP_FAILED. */
export async function attachVsock(
  vm: LiveVm,
  asked: Params<'vsock.attach'>['vsock'],
  { deadline, checkPolicy }: { readonly deadline: Deadline; readonly checkPolicy: CheckPolicy },
): Promise<boolean> {
  await failpoint('attach.begun');
  requireHotplug(vm, 'vsock');
  const limits = uncancelled(vm, deadline);
  const peripherals = await reconcileDevices(vm, limits);
  const has = vm.spec.vsock;
  if (has !== undefined) {
    const isSame = has.readyPort === asked.readyPort && (asked.slot ?? has.slot) === has.slot;
    if (isSame) return false;
    throw new FairleadError('CONFLICT', `VM ${vm.name} has a vsock that differs from this one: detach it first`, {
      details: { vm: vm.name },
    });
  }
  const vsock = { ...asked, slot: freeSlot(vm.spec, asked.slot, peripherals, 'its vsock') };
  const spec = { ...vm.spec, vsock };
  checkSpec(spec);
  await checkPolicy(spec);
  deadline.signal.throwIfAborted();

  const undo = new UndoList(vm);
  await undo.guard(async () => {
    const device = await vm.vsock.prepare(deadline.signal);
    undo.push(() => device[Symbol.asyncDispose]());
    requireSharedMemory(vm, device);
    undo.push(() => vm.changeSpec(withoutVsock));
    await vm.changeSpec((current) => ({ ...current, vsock }));
    undo.push(() => vm.vsock.use(undefined));
    await vm.vsock.use(device);
    await failpoint('attach.recorded');
    await plugVsock(vm, { device, spec, limits, undo });
  });
  await failpoint('attach.device-added');
  return true;
}

export const LEAVING_VSOCK: Leaving = {
  what: 'the vsock',
  id: VSOCK_ID,
  slotIn: ({ vsock }) => vsock?.slot,
  // Its streams end while the guest can still hear of that.
  prepare: (vm) => vm.vsock.quiet('its vsock is being taken away'),
};

/**
 * QEMU's side of a device that the host has, and of a spec that has it. A guest that runs finds it by itself; streams wait for that.
 * @throws FairleadError what QMP throws; what is in `undo` takes all of it back.
 */
export async function plugVsock(
  vm: CommandedVm,
  { device, spec, limits, undo }: { device: VsockDevice; spec: VmSpec; limits: CommandLimits; undo: UndoList },
): Promise<void> {
  if (spec.vsock === undefined) throw new FairleadError('INTERNAL', `VM ${vm.name} has no slot for its vsock`);
  // The guest's driver is not there yet, and a device that is dialled while it comes may be lost for good.
  device.guestChanged('plugged');
  const backend = await addBackend(vm, device, limits, undo);
  await failpoint('attach.backend-added');
  await addDevice(vm, { ...backend, id: VSOCK_ID, ...slotPlace(spec.machine, spec.vsock.slot) }, limits);
  device.spawned();
  // One that dials the host then is known to be there for certain.
  if (spec.vsock.readyPort === undefined) void letThroughWhenTaken(vm, device);
}

async function addBackend(vm: CommandedVm, device: VsockDevice, limits: CommandLimits, undo: UndoList): Promise<Description> {
  const { backend, vhostFd, cid } = device;
  if (backend.kind === 'vhost-user') {
    const addr = { type: 'unix', data: { path: backend.socketPath } };
    const socket = { type: 'socket', data: { addr, server: false } };
    await addPart(vm, { command: 'chardev-add', description: { id: VSOCK_CHARDEV, backend: socket } }, limits, undo);
    return { driver: 'vhost-user-vsock-pci', chardev: VSOCK_CHARDEV };
  }
  if (vhostFd === undefined) throw new FairleadError('INTERNAL', `the vsock device of VM ${vm.name} has no descriptor`);
  undo.push((late) => vm.execute('closefd', { fdname: FD_NAME }, late));
  await vm.execute('getfd', { fdname: FD_NAME }, limits, { fds: [vhostFd] });
  return { driver: 'vhost-vsock-pci', 'guest-cid': cid, vhostfd: FD_NAME };
}

/** The daemon works on the guest's memory itself, which has to have been made for that when the VM was started. */
function requireSharedMemory({ name, process: { argv } }: LiveVm, { backend }: VsockDevice): void {
  const ram = argv.find((argument) => argument.startsWith('{') && argument.includes('"id":"ram0"'));
  if (backend.kind !== 'vhost-user' || ram?.includes('"share":true') === true) return;
  throw new FairleadError(
    'UNSUPPORTED',
    `VM ${name} was started without a vsock, so its memory is not shared with others, as the vhost-user transport of this host needs: ` +
      'stop it, put a vsock into its spec, and start it',
  );
}
