/**
 * What a spec leaves open and one field alone cannot say: ids and slots of devices, and what the machine type has.
 *
 * Ids are `disk0`, `disk1`… and `net0`, `net1`…, slots the lowest free ones, for the vsock first, then networks, then disks. A device that
 * has its id and slot keeps them, whatever is added or taken away beside it.
 */
import type { DiskInput, NetworkInput } from './vm-spec-devices.ts';
import { MACHINE_FEATURES, type MachineType } from './vm-spec-machines.ts';

/** The fields that are filled in, as their schemas leave them. */
interface Fillable {
  readonly machine: MachineType;
  readonly vsock?: { readonly slot?: number | undefined } | undefined;
  readonly networks: readonly NetworkInput[];
  readonly disks: readonly DiskInput[];
  readonly devices: Partial<Record<'rng' | 'balloon' | 'pvpanic' | 'vmgenid', boolean | undefined>> & {
    readonly hotplugSlots?: number | undefined;
  };
}

export function fillIn<Spec extends Fillable>(spec: Spec) {
  const features = MACHINE_FEATURES[spec.machine];
  const { rng = true, balloon = true, pvpanic = features.pvpanic, vmgenid = features.vmgenid, hotplugSlots } = spec.devices;
  const slots = new Numbers([spec.vsock, ...spec.networks, ...spec.disks].map(slotOf).filter((slot) => slot !== undefined));
  const vsock = spec.vsock && { ...spec.vsock, slot: spec.vsock.slot ?? slots.next() };
  const networkIds = idsOf(spec.networks, 'net');
  const networks = spec.networks.map((network) => ({
    ...network,
    id: network.id ?? networkIds(),
    slot: network.slot ?? slots.next(),
  }));
  const diskIds = idsOf(spec.disks, 'disk');
  const disks = spec.disks.map((disk) => {
    const id = disk.id ?? diskIds();
    return disk.media === 'cdrom' ? { ...disk, id } : { ...disk, id, slot: disk.slot ?? slots.next() };
  });
  const devices = { rng, balloon, pvpanic, vmgenid, hotplugSlots: hotplugSlots ?? features.defaultHotplugSlots };
  return { ...spec, ...(vsock && { vsock }), networks, disks, devices };
}

function slotOf(device: Fillable['vsock'] | NetworkInput | DiskInput): number | undefined {
  return device !== undefined && 'slot' in device ? device.slot : undefined;
}

/** Makes the ids that are missing; the numbers of those that are given are taken. */
function idsOf(devices: readonly { readonly id?: string | undefined }[], prefix: string): () => string {
  const taken = devices.map(({ id }) => (id?.startsWith(prefix) ? Number(id.slice(prefix.length)) : Number.NaN));
  const numbers = new Numbers(taken);
  return () => `${prefix}${numbers.next()}`;
}

/** Gives the lowest number that is not taken, each once. */
class Numbers {
  readonly #taken: Set<number>;

  constructor(taken: readonly number[]) {
    this.#taken = new Set(taken);
  }

  next(): number {
    let number = 0;
    while (this.#taken.has(number)) number++;
    this.#taken.add(number);
    return number;
  }
}
