/**
 * Changing the medium of a CD drive:
 *
 *     open the new image → tray open (by us, or by a guest that had locked it) → old medium out, new one in → tray closed
 *       → forget the old image → record
 *
 * The new image is opened first, under names that the old one does not have, so that one that cannot be opened leaves the drive as it is.
 * When the guest keeps the tray locked, the old medium stays in; when the new one is refused, the old one goes back.
 */
import { FairleadError, isFairleadError } from '../../../shared/errors.ts';
import type { Params } from '../../../shared/protocol/methods.ts';
import type { Cdrom } from '../../../shared/protocol/vm-spec-devices.ts';
import { imageNodes } from '../argv/disks.ts';
import type { Deadline } from '../deadline.ts';
import { blockDevicesAmong } from '../host/host-devices.ts';
import type { CommandLimits, LiveVm } from '../live-vm.ts';
import { checkFiles, checkSpec } from '../spec-check.ts';
import type { CheckPolicy } from './attach.ts';
import { addPart, type Description, UndoList } from './plug.ts';
import { uncancelled } from './ports.ts';

/** How long a guest that has locked the tray may take to open it. */
const TRAY_MS = 10_000;
const ANSWER_MS = 500;

type Request = Omit<Params<'medium.change'>, 'vm'>;

/** @throws FairleadError NOT_FOUND, GUEST_UNRESPONSIVE, PERMISSION_DENIED, QMP_FAILED. */
export async function changeMedium(
  vm: LiveVm,
  { id, path, format, force }: Request,
  { deadline, checkPolicy }: { readonly deadline: Deadline; readonly checkPolicy: CheckPolicy },
): Promise<boolean> {
  const limits = uncancelled(vm, deadline);
  const drive = requireDrive(vm, id);
  const { path: _old, ...empty } = drive;
  const changed: Cdrom = { ...empty, format, ...(path !== undefined && { path }) };
  const before = await readDrive(vm, id, limits);
  const isSame = drive.path === path && (path === undefined || drive.format === format);
  if (isSame && (before.node !== undefined) === (path !== undefined)) return false;

  const replace = (disk: Cdrom) => (spec: LiveVm['spec']) => ({
    ...spec,
    disks: spec.disks.map((other) => (other.id === id ? disk : other)),
  });
  const spec = replace(changed)(vm.spec);
  checkSpec(spec);
  await checkPolicy(spec);
  await checkFiles(spec);
  const nodes = await nodesOf(vm, changed, limits);
  deadline.signal.throwIfAborted();

  const undo = new UndoList(vm);
  await undo.guard(async () => {
    for (const description of nodes) await addPart(vm, { command: 'blockdev-add', description }, limits, undo);
    await checkPolicy(spec);
    await openTray(vm, { id, force, isOpen: before.isOpen }, deadline);
    undo.push((late) => vm.execute('blockdev-close-tray', { id }, late));
    const { node } = before;
    if (node !== undefined) {
      await vm.execute('blockdev-remove-medium', { id }, limits);
      undo.push((late) => vm.execute('blockdev-insert-medium', { id, 'node-name': node }, late));
    }
    const top = nodes.at(-1)?.['node-name'];
    if (typeof top === 'string') await vm.execute('blockdev-insert-medium', { id, 'node-name': top }, limits);
  });
  await vm.execute('blockdev-close-tray', { id }, limits);
  await vm.changeSpec(replace(changed));
  await forgetOthers(vm, id, nodes, limits);
  return true;
}

async function openTray(
  vm: LiveVm,
  { id, force, isOpen }: { readonly id: string; readonly force: boolean; readonly isOpen: boolean },
  deadline: Deadline,
): Promise<void> {
  if (isOpen) return;
  using moved = vm.listen({ names: ['DEVICE_TRAY_MOVED'], where: ({ data }) => data['id'] === id && data['tray-open'] === true });
  await vm.execute('blockdev-open-tray', { id, force }, uncancelled(vm, deadline));
  const timeoutMs = Math.max(0, Math.min(TRAY_MS, deadline.remainingMs - ANSWER_MS));
  const signal = AbortSignal.any([deadline.signal, vm.signal]);
  try {
    await moved.take({ timeoutMs, signal });
  } catch (error) {
    signal.throwIfAborted();
    if (!isFairleadError(error) || error.code !== 'TIMEOUT') throw error;
    throw new FairleadError(
      'GUEST_UNRESPONSIVE',
      `the guest of VM ${vm.name} has locked the tray of ${id} and did not open it within ${Math.round(timeoutMs)} ms: unmount it there, or use force`,
      { details: { vm: vm.name, device: id } },
    );
  }
}

interface Drive {
  readonly isOpen: boolean;
  /** The topmost node of what is in it. */
  readonly node: string | undefined;
}

async function readDrive(vm: LiveVm, id: string, limits: CommandLimits): Promise<Drive> {
  const devices = await vm.execute('query-block', {}, limits);
  const device = devices.find(({ qdev }) => qdev === id);
  if (device === undefined)
    throw new FairleadError('NOT_FOUND', `QEMU of VM ${vm.name} has no CD drive ${id}: stop and start the VM`);
  return { isOpen: device.tray_open === true, node: device.inserted?.['node-name'] };
}

/** Two sets of names, of which the medium in the drive has one: the other is for the next medium. */
async function nodesOf(vm: LiveVm, disk: Cdrom, limits: CommandLimits): Promise<Description[]> {
  if (disk.path === undefined) return [];
  const nodes = imageNodes(disk, await blockDevicesAmong([disk.path]));
  const taken = await nodeNames(vm, limits);
  const isFree = nodes.every((node) => !taken.includes(String(node['node-name'])));
  return isFree ? nodes : nodes.map(renamed);
}

function renamed(node: Description): Description {
  const { file } = node;
  return { ...node, 'node-name': `${String(node['node-name'])}2`, ...(typeof file === 'string' && { file: `${file}2` }) };
}

/** Takes away every node of the drive but those that were just put in, left-overs of an earlier change included. */
async function forgetOthers(vm: LiveVm, id: string, kept: readonly Description[], limits: CommandLimits): Promise<void> {
  const names = [`${id}-format`, `${id}-file`, `${id}-format2`, `${id}-file2`];
  const there = await nodeNames(vm, limits);
  for (const name of names) {
    if (there.includes(name) && !kept.some((node) => node['node-name'] === name)) {
      await vm.execute('blockdev-del', { 'node-name': name }, limits);
    }
  }
}

async function nodeNames(vm: LiveVm, limits: CommandLimits): Promise<string[]> {
  const nodes = await vm.execute('query-named-block-nodes', { flat: true }, limits);
  return nodes.flatMap((node) => node['node-name'] ?? []);
}

function requireDrive({ name, spec }: LiveVm, id: string): Cdrom {
  const drive = spec.disks.find((disk) => disk.id === id);
  if (drive?.media === 'cdrom') return drive;
  const why = drive === undefined ? 'nothing has that id' : 'that is a disk';
  throw new FairleadError('NOT_FOUND', `VM ${name} has no CD drive ${id}: ${why}`, { details: { vm: name, id } });
}
