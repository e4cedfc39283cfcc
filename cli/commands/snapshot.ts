/** `fairlead snapshot …` and `fairlead vm clone`: VMs saved under names, gone back to, and given away. */
import type { Command } from 'commander';
import type { ParamsInput } from '../../shared/protocol/methods.ts';
import type { SnapshotInfo, SnapshotMode } from '../../shared/protocol/snapshot.ts';
import { type App, withHub } from '../app.ts';
import { parseInteger } from '../integer.ts';
import { age, humanBytes, type Output } from '../output.ts';

interface HostOption {
  readonly host?: string;
}

export function registerSnapshot(program: Command, app: App): void {
  const snapshot = program.command('snapshot').description('VMs saved under names');
  registerMaking(snapshot, app);
  registerLooking(snapshot, app);
  registerRemoving(snapshot, app);
}

export function registerVmClone(vm: Command, app: App): void {
  hostOption(vm.command('clone <snapshot>'))
    .description('make VMs from a clonable snapshot, running, each with an identity of its own')
    .option('--count <number>', 'how many', parseInteger, 1)
    .option('--names <names...>', 'their names, one each')
    .action(async (name: string, options: HostOption & { count: number; names?: string[] }, command: Command) =>
      withHub(app, command, async ({ hub, output }) => {
        const { host, names, count } = options;
        const made = await hub.call('vm.clone', { snapshot: name, count, ...(names && { names }) }, host);
        for (const [vm, why] of Object.entries(made.randomSeeds)) output.say(`${vm} may share random numbers for now: ${why}`);
        for (const [vm, why] of Object.entries(made.clocks)) output.say(`the clock of ${vm} was not set: ${why}`);
        for (const [vm, why] of Object.entries(made.hostNames)) output.say(`the guest of ${vm} was not told its name: ${why}`);
        if (made.why !== undefined) output.say(`each has a copy of the memory: ${made.why}`);
        output.list(
          made.vms,
          [
            { title: 'VM', value: (row) => row.name },
            { title: 'STATE', value: (row) => row.state },
            { title: 'CID', value: (row) => row.vsock?.cid },
          ],
          { name: (row) => row.name, empty: 'none' },
        );
      }),
    );
}

function registerMaking(snapshot: Command, app: App): void {
  hostOption(snapshot.command('create <vm> <name>'))
    .description('save a VM that runs or is paused, memory and disks of one moment; it goes on as it was')
    .option('--instant', 'devices alone, with a frozen copy of its RAM file: there again in milliseconds')
    .option('--clonable', 'take networks and vsock out meanwhile, so that clones get their own')
    .action(async (vm: string, name: string, options: HostOption & { instant?: true; clonable?: true }, command: Command) =>
      withHub(app, command, async ({ hub, output }) => {
        const mode: SnapshotMode = options.instant === true ? 'instant' : 'stream';
        const params: ParamsInput<'snapshot.create'> = { vm, name, mode, clonable: options.clonable === true };
        print(output, await hub.call('snapshot.create', params, options.host));
      }),
    );

  hostOption(snapshot.command('restore <snapshot>'))
    .description('bring the VM back to it, memory and disks; the VM must be stopped, or gone')
    .option('--paused', 'and leave it paused')
    .action(async (name: string, options: HostOption & { paused?: true }, command: Command) =>
      withHub(app, command, async ({ hub, output }) => {
        const state = options.paused === true ? 'paused' : 'running';
        const vm = await hub.call('vm.restore', { snapshot: name, state }, options.host);
        output.record(
          vm,
          [
            ['vm', vm.name],
            ['state', vm.state],
            ['snapshot', name],
          ],
          vm.name,
        );
      }),
    );
}

function registerLooking(snapshot: Command, app: App): void {
  hostOption(snapshot.command('ls').alias('list'))
    .description('the snapshots of a host')
    .option('--vm <vm>', 'of one VM')
    .action(async (options: HostOption & { vm?: string }, command: Command) =>
      withHub(app, command, async ({ hub, output }) => {
        const rows: SnapshotInfo[] = [];
        for (let after: string | undefined; ; ) {
          const params = { ...(options.vm !== undefined && { vm: options.vm }), ...(after !== undefined && { after }) };
          const page = await hub.call('snapshot.list', params, options.host);
          if (after === undefined) for (const { name, reason } of page.broken) output.say(`${name} cannot be read: ${reason}`);
          rows.push(...page.snapshots);
          if (page.next === undefined) break;
          after = page.next;
        }
        const now = Date.now();
        output.list(
          rows,
          [
            { title: 'SNAPSHOT', value: (row) => row.name },
            { title: 'VM', value: (row) => row.vm },
            { title: 'MODE', value: (row) => (row.clonable ? `${row.mode}, clonable` : row.mode) },
            { title: 'MEMORY', value: (row) => humanBytes(row.memoryBytes) },
            { title: 'STORED', value: (row) => humanBytes(row.storedBytes) },
            { title: 'AGE', value: (row) => age(row.createdAt, now) },
            { title: 'USED BY', value: (row) => row.usedBy.join(', ') },
          ],
          { name: (row) => row.name, empty: 'no snapshot yet: make one with `fairlead snapshot create VM NAME`' },
        );
      }),
    );

  hostOption(snapshot.command('show <snapshot>'))
    .description('what is known of one')
    .action(async (name: string, options: HostOption, command: Command) =>
      withHub(app, command, async ({ hub, output }) => {
        const shown = await hub.call('snapshot.show', { snapshot: name }, options.host);
        if (output.format === 'table') print(output, shown.snapshot);
        else output.record(shown, [], name);
      }),
    );

  hostOption(snapshot.command('verify <snapshot>'))
    .description('read all of it and compare it with what was written')
    .action(async (name: string, options: HostOption, command: Command) =>
      withHub(app, command, async ({ hub, output }) => {
        const verified = await hub.call('snapshot.verify', { snapshot: name }, options.host);
        if (!verified.ok) app.exitCode = 1;
        output.record(verified, [
          ['snapshot', name],
          ['whole', verified.ok ? 'yes' : 'NO'],
          ['read', humanBytes(verified.readBytes)],
          ...verified.problems.map((problem) => ['problem', problem] as const),
        ]);
      }),
    );
}

function registerRemoving(snapshot: Command, app: App): void {
  hostOption(snapshot.command('rm <snapshot>'))
    .description('remove one that nothing stands on')
    .action(async (name: string, options: HostOption, command: Command) =>
      withHub(app, command, async ({ hub, output }) => {
        const { removed } = await hub.call('snapshot.remove', { snapshot: name }, options.host);
        output.record({ snapshot: name, removed }, [['snapshot', `${name} ${removed ? 'removed' : 'was not there'}`]], name);
      }),
    );

  hostOption(snapshot.command('prune'))
    .description('remove all but the newest of each VM; those in use stay')
    .requiredOption('--keep <number>', 'how many stay', parseInteger)
    .option('--vm <vm>', 'of one VM alone')
    .action(async (options: HostOption & { keep: number; vm?: string }, command: Command) =>
      withHub(app, command, async ({ hub, output }) => {
        const params = { keep: options.keep, ...(options.vm !== undefined && { vm: options.vm }) };
        const pruned = await hub.call('snapshot.prune', params, options.host);
        output.record(pruned, [
          ['removed', pruned.removed.join(', ') || 'none'],
          ['in use', pruned.inUse.join(', ')],
        ]);
      }),
    );
}

function print(output: Output, snapshot: SnapshotInfo): void {
  output.record(
    snapshot,
    [
      ['snapshot', snapshot.name],
      ['vm', snapshot.vm],
      ['mode', snapshot.clonable ? `${snapshot.mode}, clonable` : snapshot.mode],
      ['made', snapshot.createdAt],
      ['machine', `${snapshot.machine} of QEMU ${snapshot.qemuVersion}`],
      ['memory', humanBytes(snapshot.memoryBytes)],
      ['stored', humanBytes(snapshot.storedBytes)],
      ['guest stood still', `${snapshot.pausedMs} ms`],
      ['used by', snapshot.usedBy.join(', ')],
    ],
    snapshot.name,
  );
}

function hostOption(command: Command): Command {
  return command.option('--host <host>', 'the host it is on');
}
