/** The flags that describe a VM, each a field of its spec; what they come to is vm-spec-flags.ts. All the rest takes `-f`. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { parseDuration } from './duration.ts';
import { parseInteger } from './integer.ts';

export interface SpecFlags {
  readonly file?: string;
  readonly machine?: 'q35' | 'microvm' | 'virt';
  readonly accel?: 'auto' | 'kvm' | 'tcg';
  readonly cpus?: number;
  readonly memory?: string;
  readonly maxMemory?: string;
  readonly memoryBacking?: 'anonymous' | 'file';
  readonly firmware?: string;
  readonly firmwareVars?: string;
  readonly kernel?: string;
  readonly initrd?: string;
  readonly append?: string;
  readonly disk?: readonly string[];
  readonly cdrom?: readonly string[];
  readonly label?: Record<string, string>;
  readonly tap?: readonly string[];
  readonly bridge?: readonly string[];
  readonly user?: boolean;
  readonly forward?: readonly { readonly hostPort: number; readonly guestPort: number }[];
  readonly pci?: readonly string[];
  readonly hotplugSlots?: number;
  readonly vsock?: boolean;
  readonly guestAgent?: 'virtio-serial' | 'vsock';
  readonly restart?: 'never' | 'on-failure' | 'always';
  readonly suspendAfter?: number;
}

/** In place of a path: a CD drive with nothing in it. */
export const EMPTY = 'empty';

export function specOptions(command: Command): Command {
  return command
    .option('-f, --file <path>', 'VM spec in YAML or JSON; flags lie over it')
    .addOption(new Option('--machine <type>', 'machine type').choices(['q35', 'microvm', 'virt']))
    .addOption(new Option('--accel <kind>', 'accelerator').choices(['auto', 'kvm', 'tcg']))
    .option('--cpus <count>', 'number of vCPUs', parseInteger)
    .option('--memory <size>', 'RAM, such as 512MiB')
    .option('--max-memory <size>', 'what it may grow to while it runs')
    .addOption(new Option('--memory-backing <kind>', 'what RAM is made of').choices(['anonymous', 'file']))
    .option('--firmware <path>', 'firmware on the host')
    .option('--firmware-vars <path>', "the VM's own file of firmware variables")
    .option('--kernel <path>', 'kernel image on the host')
    .option('--initrd <path>', 'initial RAM disk on the host')
    .option('--append <text>', 'kernel command line')
    .option('--disk <path>', 'disk on the host, raw or *.qcow2 (may be repeated)', collect)
    .option('--cdrom <path>', `medium of a CD drive, or "${EMPTY}" (may be repeated)`, collect)
    .option('--label <key=value>', 'label (may be repeated)', collectLabels)
    .option('--tap <name>', 'network on an existing tap (may be repeated)', collect)
    .option('--bridge <name>', 'network on a bridge of the host (may be repeated)', collect)
    .option('--user', "network behind the host's own address")
    .option('--forward <port:port>', 'TCP port of the host that leads to one of the guest (may be repeated)', collectForwards)
    .option('--pci <device>', 'PCI device to pass through, by address or path in /sys (may be repeated)', collect)
    .option('--hotplug-slots <count>', 'ports kept free for devices attached while it runs', parseInteger)
    .option('--vsock', 'give it a vsock device')
    .option('--no-vsock', 'give it none')
    .addOption(new Option('--guest-agent <via>', 'where qemu-ga listens').choices(['virtio-serial', 'vsock']))
    .addOption(new Option('--restart <policy>', 'start it again when it ends').choices(['never', 'on-failure', 'always']))
    .option('--suspend-after <duration>', 'suspend it when nothing has used it for that long', parseDuration);
}

/** Collector for a repeatable `--label key=value`. */
export function collectLabels(text: string, labels: Record<string, string> = {}): Record<string, string> {
  const split = text.indexOf('=');
  if (split < 1) throw new InvalidArgumentError('Write a label as key=value.');
  return { ...labels, [text.slice(0, split)]: text.slice(split + 1) };
}

/** Collector for a repeatable option. */
function collect(text: string, values: readonly string[] = []): string[] {
  return [...values, text];
}

/** Collector for a repeatable `--forward HOSTPORT:GUESTPORT`. */
export function collectForwards(
  text: string,
  forwards: readonly { hostPort: number; guestPort: number }[] = [],
): { hostPort: number; guestPort: number }[] {
  const match = /^(\d{1,5}):(\d{1,5})$/.exec(text);
  if (match === null) throw new InvalidArgumentError('Write a forward as HOSTPORT:GUESTPORT.');
  return [...forwards, { hostPort: Number(match[1]), guestPort: Number(match[2]) }];
}
