/** `fairlead vm disk|nic|vsock|medium …`: what comes and goes while a VM runs. Paths are paths on the host, as everywhere. */
import { type Command, Option } from 'commander';
import type { MethodName, ParamsInput } from '../../shared/protocol/methods.ts';
import { type App, withHub } from '../app.ts';
import { parseInteger } from '../integer.ts';
import { fileOrImage } from '../vm-spec-flags.ts';
import { collectForwards } from '../vm-spec-options.ts';

interface HostOption {
  readonly host?: string;
}

interface LimitFlags {
  readonly bytesPerSecond?: string;
  readonly burst?: string;
  readonly iops?: number;
  readonly burstIops?: number;
}

interface DiskFlags extends HostOption, LimitFlags {
  readonly format?: 'raw' | 'qcow2';
  readonly readOnly?: boolean;
  readonly cache?: 'none' | 'writeback' | 'writethrough' | 'unsafe';
  readonly aio?: 'threads' | 'native' | 'io_uring';
  readonly serial?: string;
}

interface BandwidthFlags extends HostOption {
  readonly maxBandwidth?: string;
}

interface NicFlags extends HostOption {
  readonly tap?: string;
  readonly bridge?: string;
  readonly user?: boolean;
  readonly mac?: string;
  readonly forward?: { readonly hostPort: number; readonly guestPort: number }[];
}

export function registerVmDevices(vm: Command, app: App): void {
  const disk = vm.command('disk').description('disks of a running VM; its spec keeps what is changed');
  registerDisk(disk, app);
  registerDiskImages(disk, app);
  registerNic(vm.command('nic').description('networks of a running VM; its spec keeps what is changed'), app);
  registerVsock(vm.command('vsock').description('the vsock of a running VM, through which streams lead into it'), app);
  registerMedium(vm.command('medium').description('what is in the CD drives of a running VM'), app);
}

function registerDisk(disk: Command, app: App): void {
  limitOptions(disk.command('attach <vm> <id> <path>'))
    .description('attach a disk; the guest finds it by itself')
    .addOption(new Option('--format <format>', 'default: by the name of the file').choices(['raw', 'qcow2']))
    .option('--read-only', 'the guest cannot write to it')
    .addOption(new Option('--cache <mode>', 'cache mode').choices(['none', 'writeback', 'writethrough', 'unsafe']))
    .addOption(new Option('--aio <kind>', 'how QEMU does its I/O').choices(['threads', 'native', 'io_uring']))
    .option('--serial <text>', 'serial number that the guest sees')
    .action(async (name: string, id: string, path: string, flags: DiskFlags, command: Command) => {
      const throttle = throttleOf(flags);
      const params: ParamsInput<'disk.attach'> = {
        vm: name,
        id,
        disk: {
          path: fileOrImage(path),
          format: flags.format ?? (path.endsWith('.qcow2') ? 'qcow2' : 'raw'),
          ...(flags.readOnly === true && { readOnly: true }),
          ...(flags.cache !== undefined && { cache: flags.cache }),
          ...(flags.aio !== undefined && { aio: flags.aio }),
          ...(flags.serial !== undefined && { serial: flags.serial }),
          ...(Object.keys(throttle).length > 0 && { throttle }),
        },
      };
      await change(app, command, 'disk.attach', params, {
        done: `disk ${id} is attached to`,
        same: `disk ${id} is already attached to`,
      });
    });

  withHost(disk.command('detach <vm> <id>'))
    .description('detach a disk; answers once the guest has let go of it')
    .action(async (name: string, id: string, _flags: HostOption, command: Command) =>
      change(
        app,
        command,
        'disk.detach',
        { vm: name, id },
        { done: `disk ${id} is detached from`, same: `there is no disk ${id} on` },
      ),
    );

  withHost(disk.command('resize <vm> <id> <size>'))
    .description('make a disk larger, such as to 20GiB')
    .action(async (name: string, id: string, bytes: string, _flags: HostOption, command: Command) =>
      change(
        app,
        command,
        'disk.resize',
        { vm: name, id, bytes },
        {
          done: `disk ${id} has ${bytes} now on`,
          same: `disk ${id} has ${bytes} already on`,
        },
      ),
    );

  limitOptions(disk.command('throttle <vm> <id>'))
    .description('change the limits of a disk; without any it is as fast as the host')
    .action(async (name: string, id: string, flags: HostOption & LimitFlags, command: Command) =>
      change(
        app,
        command,
        'disk.throttle',
        { vm: name, id, throttle: throttleOf(flags) },
        {
          done: `disk ${id} has new limits on`,
          same: `disk ${id} has these limits already on`,
        },
      ),
    );
}

/** On what a disk stands, also while its VM is at rest. */
function registerDiskImages(disk: Command, app: App): void {
  withHost(disk.command('flatten <vm> <id>'))
    .description('copy into its image all that it has below it, so that a snapshot that it was made from can go')
    .option('--max-bandwidth <size>', 'bytes a second, such as 100MiB, of a VM that runs; as fast as it goes by default')
    .action(async (name: string, id: string, flags: BandwidthFlags, command: Command) =>
      change(
        app,
        command,
        'disk.flatten',
        { vm: name, id, ...bandwidthOf(flags) },
        { done: `disk ${id} stands on nothing now on`, same: `disk ${id} stands on nothing already on` },
      ),
    );

  withHost(disk.command('rebase <vm> <id> <snapshot>'))
    .description('put a disk that was made from a snapshot on that of another one; its guest sees no change')
    .option('--max-bandwidth <size>', 'bytes a second, such as 100MiB, of a VM that runs; as fast as it goes by default')
    .action(async (name: string, id: string, snapshot: string, flags: BandwidthFlags, command: Command) =>
      change(
        app,
        command,
        'disk.rebase',
        { vm: name, id, snapshot, ...bandwidthOf(flags) },
        {
          done: `disk ${id} stands on snapshot ${snapshot} now on`,
          same: `disk ${id} stands on snapshot ${snapshot} already on`,
        },
      ),
    );
}

function registerNic(nic: Command, app: App): void {
  withHost(nic.command('attach <vm> <id>'))
    .description('attach a network: one of --tap, --bridge and --user')
    .addOption(new Option('--tap <name>', 'an existing tap of the host').conflicts(['bridge', 'user']))
    .addOption(new Option('--bridge <name>', 'a tap that the agent makes on this bridge').conflicts(['tap', 'user']))
    .addOption(new Option('--user', "QEMU's own network behind the host's address (the default)").conflicts(['tap', 'bridge']))
    .option('--mac <address>', 'MAC address in the guest')
    .option(
      '--forward <port:port>',
      'with --user: TCP port of the host that leads to one of the guest (may be repeated)',
      collectForwards,
    )
    .action(async (name: string, id: string, flags: NicFlags, command: Command) => {
      const params: ParamsInput<'network.attach'> = { vm: name, id, network: networkOf(flags) };
      await change(app, command, 'network.attach', params, {
        done: `network ${id} is attached to`,
        same: `network ${id} is already attached to`,
      });
    });

  withHost(nic.command('detach <vm> <id>'))
    .description('detach a network; answers once the guest has let go of it')
    .action(async (name: string, id: string, _flags: HostOption, command: Command) =>
      change(
        app,
        command,
        'network.detach',
        { vm: name, id },
        {
          done: `network ${id} is detached from`,
          same: `there is no network ${id} on`,
        },
      ),
    );
}

function registerVsock(vsock: Command, app: App): void {
  withHost(vsock.command('attach <vm>'))
    .description('give it a vsock, with a new CID')
    .option('--ready-port <port>', 'the guest dials this port of the host when it is ready', parseInteger)
    .action(async (name: string, flags: HostOption & { readyPort?: number }, command: Command) => {
      const vsock = flags.readyPort === undefined ? {} : { readyPort: flags.readyPort };
      await change(
        app,
        command,
        'vsock.attach',
        { vm: name, vsock },
        { done: 'a vsock is attached to', same: 'there is such a vsock already on' },
      );
    });

  withHost(vsock.command('detach <vm>'))
    .description('take it away; open streams into the guest are reset')
    .action(async (name: string, _flags: HostOption, command: Command) =>
      change(app, command, 'vsock.detach', { vm: name }, { done: 'the vsock is detached from', same: 'there is no vsock on' }),
    );
}

function registerMedium(medium: Command, app: App): void {
  withHost(medium.command('change <vm> <id> <path>'))
    .description('put another medium into a CD drive')
    .option('--force', 'open a tray that the guest has locked')
    .action(async (name: string, id: string, path: string, flags: HostOption & { force?: boolean }, command: Command) => {
      const format = path.endsWith('.qcow2') ? 'qcow2' : 'raw';
      await change(
        app,
        command,
        'medium.change',
        { vm: name, id, path: fileOrImage(path), format, force: flags.force === true },
        {
          done: `drive ${id} has ${path} now on`,
          same: `drive ${id} has ${path} already on`,
        },
      );
    });

  withHost(medium.command('eject <vm> <id>'))
    .description('take the medium out of a CD drive')
    .option('--force', 'open a tray that the guest has locked')
    .action(async (name: string, id: string, flags: HostOption & { force?: boolean }, command: Command) =>
      change(
        app,
        command,
        'medium.change',
        { vm: name, id, force: flags.force === true },
        {
          done: `drive ${id} is empty now on`,
          same: `drive ${id} is empty already on`,
        },
      ),
    );
}

type DeviceMethod = Extract<MethodName, `disk.${string}` | `network.${string}` | `vsock.${string}` | 'medium.change'>;

async function change<M extends DeviceMethod>(
  app: App,
  command: Command,
  method: M,
  params: ParamsInput<M> & { readonly vm: string },
  words: { readonly done: string; readonly same: string },
): Promise<void> {
  await withHub(app, command, async ({ hub, output }) => {
    const { changed } = await hub.call(method, params, command.opts<HostOption>().host);
    if (output.format === 'table') output.say(`${changed ? words.done : words.same} VM ${params.vm}`);
    else output.record({ changed }, []);
  });
}

function networkOf({ tap, bridge, mac, forward }: NicFlags): ParamsInput<'network.attach'>['network'] {
  const address = mac === undefined ? {} : { mac };
  if (tap !== undefined) return { type: 'tap', tap, ...address };
  if (bridge !== undefined) return { type: 'bridge', bridge, ...address };
  return { type: 'user', ...address, ...(forward !== undefined && { forwards: forward }) };
}

function bandwidthOf({ maxBandwidth }: BandwidthFlags) {
  return maxBandwidth === undefined ? {} : { maxBandwidthBytes: maxBandwidth };
}

function throttleOf({ bytesPerSecond, burst, iops, burstIops }: LimitFlags) {
  return {
    ...(bytesPerSecond !== undefined && { bytesPerSecond }),
    ...(burst !== undefined && { burstBytesPerSecond: burst }),
    ...(iops !== undefined && { operationsPerSecond: iops }),
    ...(burstIops !== undefined && { burstOperationsPerSecond: burstIops }),
  };
}

function limitOptions(command: Command): Command {
  return withHost(command)
    .option('--bytes-per-second <size>', 'limit of reads and writes together, such as 50MiB')
    .option('--burst <size>', 'bytes a second for a moment')
    .option('--iops <count>', 'limit of operations a second', parseInteger)
    .option('--burst-iops <count>', 'operations a second for a moment', parseInteger);
}

function withHost(command: Command): Command {
  return command.option('--host <host>', 'the host it is on');
}
