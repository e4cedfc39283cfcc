/** `fairlead op ls|show`: the commands that hosts keep in their journals, and what became of each. */
import { type Command, Option } from 'commander';
import { FairleadError, toFairleadError } from '../../shared/errors.ts';
import { OPERATION_STATES, type Operation, type OperationSummary } from '../../shared/protocol/methods-operation.ts';
import { type App, type Session, withHub } from '../app.ts';
import type { HubConnection } from '../connection.ts';
import { parseInteger } from '../integer.ts';
import { allHosts } from '../lists.ts';
import { age } from '../output.ts';

interface ListOptions {
  readonly host?: string;
  readonly vm?: string;
  readonly state?: (typeof OPERATION_STATES)[number];
  readonly limit: number;
}

type Row = OperationSummary & { readonly host: string };

const DEFAULT_LIMIT = 50;

export function registerOp(program: Command, app: App): void {
  const op = program.command('op').description('commands that changed something, as the hosts keep them for a day');

  op.command('ls')
    .alias('list')
    .description('the newest commands of a host, or of every connected host')
    .option('--host <host>', 'of this host alone')
    .option('--vm <vm>', 'for this VM alone')
    .addOption(new Option('--state <state>', 'in this state alone').choices(OPERATION_STATES))
    .option('--limit <number>', 'at most so many of a host', parseInteger, DEFAULT_LIMIT)
    .action(async (options: ListOptions, command: Command) =>
      withHub(app, command, async (session) => {
        const rows = await newestOperations(session, options);
        const now = Date.now();
        session.output.list(
          rows,
          [
            { title: 'COMMAND', value: (row) => row.id },
            { title: 'HOST', value: (row) => row.host },
            { title: 'METHOD', value: (row) => row.method },
            { title: 'VM', value: (row) => row.vm },
            { title: 'STATE', value: (row) => (row.code === undefined ? row.state : `${row.state}, ${row.code}`) },
            { title: 'BEGUN', value: (row) => age(row.acceptedAt, now) },
            { title: 'BY', value: (row) => row.actor },
          ],
          { name: (row) => row.id, empty: 'no command in the last day' },
        );
      }),
    );

  op.command('show <id>')
    .description('one command: its params, how it ended, and how the VM was before and after')
    .option('--host <host>', 'the host that it was for; without it, every connected host is asked')
    .action(async (id: string, { host }: { host?: string }, command: Command) =>
      withHub(app, command, async ({ hub, output }) => {
        const operation = host === undefined ? await findOperation(hub, id) : await hub.call('op.get', { id }, host);
        output.record(operation, linesOf(operation), operation.id);
      }),
    );
}

/** A host that cannot be asked hides nobody else's commands. */
async function newestOperations({ hub, output }: Session, { host, vm, state, limit }: ListOptions): Promise<Row[]> {
  const hosts = host === undefined ? await connectedHosts(hub) : [host];
  const params = { limit, ...(vm === undefined ? {} : { vm }), ...(state === undefined ? {} : { state }) };
  const answers = await Promise.allSettled(hosts.map((name) => hub.call('op.list', params, name)));
  const rows: Row[] = [];
  for (const [index, answer] of answers.entries()) {
    const name = hosts[index] ?? '';
    if (answer.status === 'fulfilled') rows.push(...answer.value.operations.map((row) => ({ ...row, host: name })));
    else if (hosts.length === 1) throw answer.reason;
    else output.say(`commands of host ${name} are not shown: ${toFairleadError(answer.reason).message}`);
  }
  return rows.toSorted((a, b) => (a.acceptedAt > b.acceptedAt ? -1 : 1));
}

async function findOperation(hub: HubConnection, id: string): Promise<Operation> {
  const hosts = await connectedHosts(hub);
  const answers = await Promise.allSettled(hosts.map((host) => hub.call('op.get', { id }, host)));
  for (const answer of answers) if (answer.status === 'fulfilled') return answer.value;
  const failures = answers.flatMap((answer) => (answer.status === 'rejected' ? [toFairleadError(answer.reason)] : []));
  const other = failures.find(({ code }) => code !== 'NOT_FOUND');
  if (other !== undefined) throw other;
  throw new FairleadError('NOT_FOUND', `none of ${hosts.length} connected hosts keeps a command ${id}`);
}

async function connectedHosts(hub: HubConnection): Promise<string[]> {
  return (await allHosts(hub)).filter(({ connected }) => connected).map(({ host }) => host);
}

function linesOf(operation: Operation): readonly (readonly [string, string | number | undefined])[] {
  const { reconciled, error, before, after, result, resultOmitted } = operation;
  const brief = (vm: Operation['before']): string | undefined => vm && `${vm.state}, generation ${vm.generation}`;
  return [
    ['command', operation.id],
    ['host', operation.host],
    ['method', operation.method],
    ['vm', operation.vm],
    ['by', operation.actor],
    ['state', operation.state],
    ['after a crash', reconciled && `${reconciled.outcome}: ${reconciled.reason}`],
    ['accepted', operation.acceptedAt],
    ['ended', operation.endedAt],
    ['attempts', operation.attempts > 1 ? operation.attempts : undefined],
    ['vm before', brief(before)],
    ['vm after', brief(after)],
    ['params', operation.params && JSON.stringify(operation.params)],
    ['error', error && `${error.message} (${error.code})`],
    ['result', result === undefined ? undefined : JSON.stringify(result)],
    ['result', resultOmitted && `${resultOmitted.bytes} bytes, not kept; SHA-256 ${resultOmitted.digest}`],
  ];
}
