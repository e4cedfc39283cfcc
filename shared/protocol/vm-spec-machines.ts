/** The machine types, and what each has for its guest. */
import * as v from 'valibot';

export const MachineType = v.picklist(['q35', 'microvm', 'virt']);
export type MachineType = v.InferOutput<typeof MachineType>;

export interface MachineFeatures {
  /** Devices can be attached and detached while the VM runs: each sits behind a PCIe port of its own. */
  readonly hotplug: boolean;
  readonly cdrom: boolean;
  readonly pciPassthrough: boolean;
  readonly pvpanic: boolean;
  readonly vmgenid: boolean;
  /** RAM can grow beyond what it starts with. */
  readonly memoryHotplug: boolean;
  /** Firmware can be a flash device with variables. */
  readonly flash: boolean;
  readonly defaultHotplugSlots: number;
}

const FULL = { hotplug: true, cdrom: true, pciPassthrough: true, pvpanic: true, memoryHotplug: true, flash: true } as const;

export const MACHINE_FEATURES: Readonly<Record<MachineType, MachineFeatures>> = {
  q35: { ...FULL, vmgenid: true, defaultHotplugSlots: 4 },
  virt: { ...FULL, vmgenid: false, defaultHotplugSlots: 4 },
  microvm: {
    hotplug: false,
    cdrom: false,
    pciPassthrough: false,
    pvpanic: false,
    vmgenid: false,
    memoryHotplug: false,
    flash: false,
    defaultHotplugSlots: 0,
  },
};
