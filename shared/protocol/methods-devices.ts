/**
 * Methods that change the devices of a running VM. What they change is part of its spec from then on, so the next start has it too.
 */
import * as v from 'valibot';
import { Bytes, Name, VsockPort } from './common.ts';
import type { MethodContract } from './contract.ts';
import { FileOrImage } from './image-ref.ts';
import { DeviceId, DiskInput, NetworkInput, Slot, Throttle } from './vm-spec-devices.ts';

const [DataDisk] = DiskInput.options;
const [Tap, Bridge, User] = NetworkInput.options;

/** As in the spec, but for the id, which the call itself has. */
const AttachedDisk = v.omit(DataDisk, ['id', 'media']);
const AttachedNetwork = v.variant('type', [v.omit(Tap, ['id']), v.omit(Bridge, ['id']), v.omit(User, ['id'])]);

const Device = v.strictObject({ vm: Name, id: DeviceId });
/** False where the VM was that way already. */
const Changed = v.strictObject({ changed: v.boolean() });

/** Every one of them may be repeated: a VM that is that way already is left as it is. */
const call = { target: 'agent', kind: 'call', since: 1, role: 'operator', idempotent: true } as const;
const ERRORS = ['NOT_FOUND', 'WRONG_STATE', 'UNSUPPORTED', 'CONFLICT', 'QMP_FAILED'] as const;
const DETACH_ERRORS = [...ERRORS, 'GUEST_UNRESPONSIVE'] as const;

export const DEVICE_METHODS = {
  'disk.attach': {
    ...call,
    summary: 'Attach a disk to a running VM, on a free port',
    params: v.strictObject({ vm: Name, id: DeviceId, disk: AttachedDisk }),
    result: Changed,
    errors: ERRORS,
  },
  'disk.detach': {
    ...call,
    summary: 'Detach a disk from a running VM; answers once the guest has let go of it',
    params: Device,
    result: Changed,
    errors: DETACH_ERRORS,
  },
  'disk.resize': {
    ...call,
    summary: 'Make a disk of a running VM larger; the guest sees it at once',
    params: v.strictObject({ vm: Name, id: DeviceId, bytes: Bytes }),
    result: Changed,
    errors: ERRORS,
  },
  'disk.throttle': {
    ...call,
    summary: 'Change the limits of a disk of a running VM; without any it is as fast as the host',
    params: v.strictObject({ vm: Name, id: DeviceId, throttle: v.optional(Throttle, {}) }),
    result: Changed,
    errors: ERRORS,
  },
  'medium.change': {
    ...call,
    summary: 'Put another medium into a CD drive of a running VM, or take it out',
    params: v.strictObject({
      vm: Name,
      /** Of the drive. */
      id: DeviceId,
      /** Without it the drive is left empty. */
      path: v.optional(FileOrImage),
      format: v.optional(v.picklist(['raw', 'qcow2']), 'raw'),
      /** Open a tray that the guest has locked. */
      force: v.optional(v.boolean(), false),
    }),
    result: Changed,
    errors: DETACH_ERRORS,
  },
  'network.attach': {
    ...call,
    summary: 'Attach a network to a running VM, on a free port',
    params: v.strictObject({ vm: Name, id: DeviceId, network: AttachedNetwork }),
    result: Changed,
    errors: ERRORS,
  },
  'network.detach': {
    ...call,
    summary: 'Detach a network from a running VM; answers once the guest has let go of it',
    params: Device,
    result: Changed,
    errors: DETACH_ERRORS,
  },
  'vsock.attach': {
    ...call,
    summary: 'Give a running VM a vsock, with a new CID',
    params: v.strictObject({
      vm: Name,
      vsock: v.optional(v.strictObject({ slot: v.optional(Slot), readyPort: v.optional(VsockPort) }), {}),
    }),
    result: Changed,
    errors: [...ERRORS, 'PROCESS_FAILED'],
  },
  'vsock.detach': {
    ...call,
    summary: 'Take the vsock from a running VM; open streams into it are reset',
    params: v.strictObject({ vm: Name }),
    result: Changed,
    errors: DETACH_ERRORS,
  },
} as const satisfies Record<string, MethodContract>;
