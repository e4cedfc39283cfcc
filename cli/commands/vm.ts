/** `fairlead vm …`: the life of a VM. `--host` is needed only where the hub cannot tell the host by the VM's name. */
import type { Command } from 'commander';
import type { ParamsInput } from '../../shared/protocol/methods.ts';
import type { VmEvent } from '../../shared/protocol/vm-events.ts';
import { type App, type Session, withHub } from '../app.ts';
import { parseDuration } from '../duration.ts';
import { parseInteger } from '../integer.ts';
import { allVms, fleetVms } from '../lists.ts';
import { age, humanBytes, type Output } from '../output.ts';
import { specFromFlags } from '../vm-spec-flags.ts';
import { collectLabels, type SpecFlags, specOptions } from '../vm-spec-options.ts';
import { printVm, vmLines } from '../vm-text.ts';
import { registerVmClone } from './snapshot.ts';
import { registerVmDevices } from './vm-devices.ts';
import { registerVmMemory } from './vm-memory.ts';
import { registerVmMigration } from './vm-migration.ts';
import { registerVmSuspend } from './vm-suspend.ts';

interface FleetOptions {
  readonly all?: boolean;
  readonly on?: Record<string, string>;
  readonly label?: Record<string, string>;
}

interface HostOption {
  readonly host?: string;
}

export function registerVm(program: Command, app: App): void {
  const vm = program.command('vm').description('virtual machines');
  registerMaking(vm, app);
  registerLooking(vm, app);
  registerSteering(vm, app);
  registerEnding(vm, app);
  registerEvents(vm, app);
  registerVmMemory(vm, app);
  registerVmMigration(vm, app);
  registerVmDevices(vm, app);
  registerVmClone(vm, app);
  registerVmSuspend(vm, app);
}

function registerMaking(vm: Command, app: App): void {
  for (const [verb, method, description] of [
    ['run', 'vm.run', 'make a VM and start it'],
    ['create', 'vm.create', 'make a VM without starting it'],
  ] as const) {
    specOptions(hostOption(vm.command(`${verb} <name>`).description(description))).action(
      async (name: string, flags: SpecFlags & HostOption, command: Command) => {
        const spec = await specFromFlags(name, flags);
        await withHub(app, command, async ({ hub, output }) => printVm(output, await hub.call(method, { spec }, flags.host)));
      },
    );
  }

  specOptions(hostOption(vm.command('args <name>')))
    .description('the QEMU command line of a VM, or with flags of the VM that they would make')
    .action(async (name: string, flags: SpecFlags & HostOption, command: Command) =>
      withHub(app, command, async ({ hub, output }) => {
        const { host, ...specFlags } = flags;
        const params = Object.keys(specFlags).length === 0 ? { vm: name } : { spec: await specFromFlags(name, specFlags) };
        const { binary, argv } = await hub.call('vm.args', params, host);
        if (output.format === 'table') output.data(`${[binary, ...argv].map(shellQuote).join(' ')}\n`);
        else output.record({ binary, argv }, []);
      }),
    );
}

function registerLooking(vm: Command, app: App): void {
  hostOption(vm.command('ls').alias('list'))
    .description('the VMs of a host, or of every connected host')
    .option('--all', 'of the whole fleet as the hub knows them, those of hosts that are away included; no host is asked')
    .option('--on <key=value>', 'the same, of hosts that have the label (may be repeated)', collectLabels)
    .option('--label <key=value>', 'the same, of VMs that have the label (may be repeated)', collectLabels)
    .action(async (options: HostOption & FleetOptions, command: Command) =>
      withHub(app, command, async (session) => {
        if (options.all === true || options.on !== undefined || options.label !== undefined)
          return await listFleet(session, options);
        const rows = await allVms(session.hub, options.host, (host, error) =>
          session.output.say(`VMs of host ${host} are not shown: ${error instanceof Error ? error.message : String(error)}`),
        );
        const now = Date.now();
        session.output.list(
          rows,
          [
            { title: 'VM', value: (row) => row.name },
            { title: 'HOST', value: (row) => row.host },
            { title: 'STATE', value: (row) => (row.ready ? `${row.state}, ready` : row.state) },
            { title: 'CPUS', value: (row) => row.spec.cpus.count },
            { title: 'MEMORY', value: (row) => humanBytes(row.spec.memory.bytes) },
            { title: 'MACHINE', value: (row) => row.spec.machine },
            { title: 'VSOCK', value: (row) => row.vsock?.transport },
            { title: 'STARTED', value: (row) => age(row.startedAt, now) },
          ],
          { name: (row) => row.name, empty: 'no VM yet: start one with `fairlead vm run NAME`' },
        );
      }),
    );

  hostOption(vm.command('get <vm>'))
    .description('what is known of a VM')
    .action(async (name: string, options: HostOption, command: Command) =>
      withHub(app, command, async ({ hub, output }) => printVm(output, await hub.call('vm.get', { vm: name }, options.host))),
    );
}

async function listFleet({ hub, output }: Session, { host, on, label }: HostOption & FleetOptions): Promise<void> {
  const hosts = { ...(host !== undefined && { hosts: [host] }), ...(on !== undefined && { labels: on }) };
  const rows = await fleetVms(hub, { on: hosts, ...(label !== undefined && { labels: label }) });
  output.list(
    rows,
    [
      { title: 'VM', value: (row) => row.vm },
      { title: 'HOST', value: (row) => row.host },
      { title: 'LINE', value: (row) => (row.connected ? 'up' : 'down') },
      { title: 'STATE', value: (row) => (row.ready ? `${row.state}, ready` : row.state) },
      { title: 'GENERATION', value: (row) => row.generation },
    ],
    { name: (row) => `${row.host}/${row.vm}`, empty: 'no VM is known' },
  );
}

function registerSteering(vm: Command, app: App): void {
  for (const [verb, method, description] of [
    ['start', 'vm.start', 'start it'],
    ['pause', 'vm.pause', 'stop its CPUs'],
    ['resume', 'vm.resume', 'let it go on, paused or suspended'],
    ['reset', 'vm.reset', 'press its reset button'],
    ['powerdown', 'vm.powerdown', 'press its power button once'],
  ] as const) {
    hostOption(vm.command(`${verb} <vm>`))
      .description(description)
      .action(async (name: string, options: HostOption, command: Command) =>
        withHub(app, command, async ({ hub, output }) => printVm(output, await hub.call(method, { vm: name }, options.host))),
      );
  }
}

function registerEnding(vm: Command, app: App): void {
  hostOption(vm.command('stop <vm>'))
    .description('stop it: power button first, force when the time is over')
    .option(
      '--grace <duration>',
      'time for the guest to shut down by itself, woken for it if it is suspended; 0 for none',
      parseDuration,
    )
    .action(async (name: string, options: HostOption & { grace?: number }, command: Command) =>
      withHub(app, command, async ({ hub, output }) => {
        const params: ParamsInput<'vm.stop'> = options.grace === undefined ? { vm: name } : { vm: name, graceMs: options.grace };
        const stopped = await hub.call('vm.stop', params, options.host);
        output.record(stopped, [...vmLines(stopped.vm), ['ended by', stopped.endedBy]], name);
      }),
    );

  hostOption(vm.command('delete <vm>').alias('rm'))
    .description('forget it and remove its state; its disks stay')
    .option('--force', 'stop it first if it runs')
    .action(async (name: string, options: HostOption & { force?: boolean }, command: Command) =>
      withHub(app, command, async ({ hub, output }) => {
        await hub.call('vm.delete', { vm: name, force: options.force === true }, options.host);
        output.say(`VM ${name} is deleted`);
      }),
    );
}

interface EventsOptions {
  readonly follow?: boolean;
  readonly since?: number;
  readonly epoch?: string;
}

function registerEvents(vm: Command, app: App): void {
  hostOption(vm.command('events [vm]'))
    .description('events of a VM, or of all VMs of a host')
    .option('--follow', 'go on with each new one until interrupted')
    .option('--since <seq>', 'only those after this sequence number', parseInteger)
    .option('--epoch <epoch>', 'the epoch of that number: all come where the log was begun anew since')
    .action(async (name: string | undefined, options: HostOption & EventsOptions, command: Command) => {
      const printEvents = async ({ hub, output }: Session): Promise<void> => {
        const params: ParamsInput<'vm.events'> = {
          ...(name !== undefined && { vm: name }),
          ...(options.since !== undefined && { since: options.since }),
          ...(options.epoch !== undefined && { epoch: options.epoch }),
          follow: options.follow === true,
        };
        if (options.follow === true) {
          await hub.follow(params, { host: options.host, signal: app.signal, onEvent: (event) => printEvent(output, event) });
          return;
        }
        const { epoch, events, missed } = await hub.call('vm.events', params, options.host);
        if (options.epoch !== undefined && options.epoch !== epoch) output.say(`the log was begun anew: its epoch is ${epoch}`);
        if (missed > 0) output.say(`${missed} earlier events have left the log`);
        output.list(events, EVENT_COLUMNS, { name: (event) => String(event.seq), empty: 'no events' });
      };
      await withHub(app, command, printEvents, { lasting: options.follow === true });
    });
}

const EVENT_COLUMNS = [
  { title: 'SEQ', value: (event: VmEvent) => event.seq },
  { title: 'TIME', value: (event: VmEvent) => event.time },
  { title: 'VM', value: (event: VmEvent) => event.vm },
  { title: 'EVENT', value: (event: VmEvent) => event.type },
  { title: 'DATA', value: (event: VmEvent) => (Object.keys(event.data).length === 0 ? '' : JSON.stringify(event.data)) },
];

/** A followed event is one line in every format, since the end of the list is not known. */
function printEvent(output: Output, event: VmEvent): void {
  if (output.format === 'table')
    output.data(
      `${EVENT_COLUMNS.map((column) => String(column.value(event)))
        .join('  ')
        .trimEnd()}\n`,
    );
  else output.data(`${JSON.stringify(event)}\n`);
}

function hostOption(command: Command): Command {
  return command.option('--host <host>', 'the host it is on, or is to be on');
}

function shellQuote(word: string): string {
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
