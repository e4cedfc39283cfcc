/** What the running QEMU has of devices that have a name: it, and not the record, knows what the guest sees at this moment. */
import type { CommandLimits, LiveVm } from '../live-vm.ts';

const PORT = /^slot(\d+)$/;

export interface Peripherals {
  readonly ids: ReadonlySet<string>;
  /** Numbers of its PCIe ports, lowest first; they are made at the start and stay the same. */
  readonly ports: readonly number[];
}

export async function readPeripherals(vm: LiveVm, limits: CommandLimits): Promise<Peripherals> {
  const children = (await vm.execute('qom-list', { path: '/machine/peripheral' }, limits)).filter(({ type }) =>
    type.startsWith('child<'),
  );
  const ports = children.flatMap(({ name }) => {
    const match = PORT.exec(name);
    return match === null ? [] : [Number(match[1])];
  });
  return { ids: new Set(children.map(({ name }) => name)), ports: ports.sort((a, b) => a - b) };
}
