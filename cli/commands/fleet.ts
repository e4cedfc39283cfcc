/** `fairlead apply|diff` and `fairlead fleet ls|show|rm`: documents of VMs that the hosts keep. */
import type { Command } from 'commander';
import type { ParamsInput, Result } from '../../shared/protocol/methods.ts';
import { type App, withHub } from '../app.ts';
import { age, type Output } from '../output.ts';
import { readDocument } from '../read-document.ts';

type Document = ParamsInput<'fleet.apply'>['document'];
type Applied = Result<'fleet.apply'>;

/** As of diff(1): something would change. */
const DIFFERS_EXIT_CODE = 1;

export function registerFleet(program: Command, app: App): void {
  program
    .command('apply')
    .description('let hosts have the VMs of a document, and keep them')
    .requiredOption('-f, --file <path>', 'the document in YAML or JSON; - is standard input')
    .option('--dry-run', 'only tell what would change')
    .action(async ({ file, dryRun = false }: { file: string; dryRun?: boolean }, command: Command) =>
      withHub(app, command, async ({ hub, output }) => {
        // SAFETY: the hub validates it by the contract, and tells where it is wrong.
        const document = (await readDocument(file, app)) as Document;
        const applied = await hub.call('fleet.apply', { document, dryRun });
        printChanges(output, applied, dryRun ? 'would change' : 'changes');
      }),
    );

  program
    .command('diff')
    .description('what `apply` of a document would change; ends with 1 where it would')
    .requiredOption('-f, --file <path>', 'the document in YAML or JSON; - is standard input')
    .action(async ({ file }: { file: string }, command: Command) =>
      withHub(app, command, async ({ hub, output }) => {
        // SAFETY: the hub validates it by the contract, and tells where it is wrong.
        const applied = await hub.call('fleet.apply', { document: (await readDocument(file, app)) as Document, dryRun: true });
        printChanges(output, applied, 'would change');
        if (applied.changes.length > 0) app.exitCode = DIFFERS_EXIT_CODE;
      }),
    );

  const fleet = program.command('fleet').description('documents of VMs that the hosts keep');

  fleet
    .command('ls')
    .alias('list')
    .description('documents that are applied')
    .action(async (_options: object, command: Command) =>
      withHub(app, command, async ({ hub, output }) => {
        const { documents } = await hub.call('fleet.list', {});
        const now = Date.now();
        output.list(
          documents,
          [
            { title: 'NAME', value: (row) => row.name },
            { title: 'ROWS', value: (row) => row.rows },
            { title: 'APPLIED', value: (row) => age(row.appliedAt, now) },
            { title: 'BY', value: (row) => row.by },
          ],
          { name: (row) => row.name, empty: 'no document yet: `fairlead apply -f FILE`' },
        );
      }),
    );

  fleet
    .command('show <name>')
    .description('the hosts of a document, and which of them have its newest version')
    .action(async (name: string, _options: object, command: Command) =>
      withHub(app, command, async ({ hub, output }) => {
        const { document, hosts, omitted } = await hub.call('fleet.get', { name });
        if (output.format !== 'table') return output.record({ document, hosts, omitted }, [], name);
        if (omitted > 0) output.say(`${omitted} more hosts are not shown`);
        output.list(
          hosts,
          [
            { title: 'HOST', value: (row) => row.host },
            { title: 'LINE', value: (row) => (row.connected ? 'up' : 'down') },
            { title: 'VMS', value: (row) => row.vms },
            { title: 'KEEPS', value: (row) => (row.acknowledged === row.generation ? 'the newest' : 'an older one') },
          ],
          { name: (row) => row.host, empty: 'its rows select no host' },
        );
      }),
    );

  fleet
    .command('rm <name>')
    .description('forget a document; the VMs that were made for it are stopped and removed, their disks stay')
    .action(async (name: string, _options: object, command: Command) =>
      withHub(app, command, async ({ hub, output }) => {
        await hub.call('fleet.remove', { name });
        output.say(`document ${name} is forgotten: the hosts remove its VMs`);
      }),
    );
}

function printChanges(output: Output, { changes, hosts, omitted }: Applied, verb: string): void {
  if (omitted > 0) output.say(`${omitted} more changes are not shown`);
  output.list(
    changes,
    [
      { title: 'HOST', value: (row) => row.host },
      { title: 'VM', value: (row) => row.vm },
      { title: 'CHANGE', value: (row) => row.change },
      { title: 'WHY', value: (row) => row.reason },
    ],
    { name: (row) => `${row.host}/${row.vm}`, empty: `nothing ${verb} on ${hosts} hosts` },
  );
}
