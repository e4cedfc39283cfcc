/**
 * `fairlead op ls|show|wait|cancel`: commands and what became of each. The hub keeps those that were given through it, hosts keep in their
 * journals all that they got; one command has one id in both.
 */
import { type Command, Option } from 'commander';
import { FairleadError, toFairleadError } from '../../shared/errors.ts';
import type { CommandRecord } from '../../shared/protocol/methods-command.ts';
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
  readonly open?: boolean;
}

type Row = Omit<OperationSummary, 'state'> & { readonly host: string; readonly state: string };

const DEFAULT_LIMIT = 50;

export function registerOp(program: Command, app: App): void {
  const op = program.command('op').description('commands that changed something, as the hosts keep them for a day');

  op.command('ls')
    .alias('list')
    .description('the newest commands of a host, or of every connected host, and those that wait for their hosts')
    .option('--host <host>', 'of this host alone')
    .option('--open', 'only those that have not ended, as the hub keeps them')
    .option('--vm <vm>', 'for this VM alone')
    .addOption(new Option('--state <state>', 'in this state alone').choices(OPERATION_STATES))
    .option('--limit <number>', 'at most so many of a host', parseInteger, DEFAULT_LIMIT)
    .action(async (options: ListOptions, command: Command) =>
      withHub(app, command, async (session) => {
        if (options.open === true) return await listOpen(session, options);
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
        const kept = await keptByHub(hub, id);
        // What its host has not been told, or cannot be asked, the hub alone knows.
        if (kept !== undefined && (host ?? kept.host) === kept.host && !(await isWithHost(hub, kept))) {
          return output.record(kept, keptLines(kept), id);
        }
        const operation = host === undefined ? await findOperation(hub, id) : await hub.call('op.get', { id }, host);
        output.record(operation, linesOf(operation), operation.id);
      }),
    );

  for (const [verb, method, description] of [
    ['wait', 'command.wait', 'wait until it is known what came of a command; --timeout bounds it'],
    ['cancel', 'command.cancel', 'take a command back: one that waits never runs, one that runs is told to stop'],
  ] as const) {
    op.command(`${verb} <id>`)
      .description(description)
      .action(async (id: string, _options: object, command: Command) =>
        withHub(app, command, async ({ hub, output }) => {
          const record = await hub.call(method, { id });
          output.record(record, keptLines(record), id);
          if (record.state !== 'done') app.exitCode = 1;
        }),
      );
  }
}

/** Commands on their way: waiting for their hosts, sent, or of unknown end. */
async function listOpen({ hub, output }: Session, { host, vm, limit }: ListOptions): Promise<void> {
  const params = { open: true, limit, ...(host === undefined ? {} : { host }), ...(vm === undefined ? {} : { vm }) };
  const { commands } = await hub.call('command.list', params);
  const now = Date.now();
  output.list(
    commands,
    [
      { title: 'COMMAND', value: (row) => row.id },
      { title: 'HOST', value: (row) => row.host },
      { title: 'METHOD', value: (row) => row.method },
      { title: 'VM', value: (row) => row.vm },
      { title: 'STATE', value: (row) => row.state },
      { title: 'BEGUN', value: (row) => age(row.createdAt, now) },
      { title: 'GIVEN UP', value: (row) => row.expiresAt },
      { title: 'BY', value: (row) => row.actor },
    ],
    { name: (row) => row.id, empty: 'no command is on its way' },
  );
}

async function keptByHub(hub: HubConnection, id: string): Promise<CommandRecord | undefined> {
  try {
    return await hub.call('command.get', { id });
  } catch (error) {
    if (toFairleadError(error).code === 'NOT_FOUND') return undefined;
    throw error;
  }
}

async function isWithHost(hub: HubConnection, { id, host }: CommandRecord): Promise<boolean> {
  try {
    await hub.call('op.get', { id }, host);
    return true;
  } catch {
    return false;
  }
}

/** A host that cannot be asked hides nobody else's commands, nor those that wait for it at the hub. */
async function newestOperations(session: Session, options: ListOptions): Promise<Row[]> {
  const { hub, output } = session;
  const { host, vm, state, limit } = options;
  const hosts = host === undefined ? await connectedHosts(hub) : [host];
  const waiting = await waitingAtHub(session, options);
  const params = { limit, ...(vm === undefined ? {} : { vm }), ...(state === undefined ? {} : { state }) };
  const answers = await Promise.allSettled(hosts.map((name) => hub.call('op.list', params, name)));
  const rows: Row[] = [];
  for (const [index, answer] of answers.entries()) {
    const name = hosts[index] ?? '';
    if (answer.status === 'fulfilled') rows.push(...answer.value.operations.map((row) => ({ ...row, host: name })));
    else if (hosts.length === 1 && waiting.length === 0) throw answer.reason;
    else output.say(`commands of host ${name} are not shown: ${toFairleadError(answer.reason).message}`);
  }
  const known = new Set(rows.map(({ id }) => id));
  rows.push(...waiting.filter(({ id }) => !known.has(id)));
  return rows.toSorted((a, b) => (a.acceptedAt > b.acceptedAt ? -1 : 1));
}

/** Given to the hub, and not known to have come to their hosts. In none of the states that a host tells. */
async function waitingAtHub({ hub }: Session, { host, vm, state, limit }: ListOptions): Promise<Row[]> {
  if (state !== undefined) return [];
  const params = { open: true, limit, ...(host === undefined ? {} : { host }), ...(vm === undefined ? {} : { vm }) };
  const { commands } = await hub.call('command.list', params);
  return commands.map(({ id, host: of, method, vm: name, actor, state: now, createdAt }) => ({
    id,
    host: of,
    method,
    ...(name === undefined ? {} : { vm: name }),
    actor,
    state: now,
    acceptedAt: createdAt,
  }));
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

function keptLines(command: CommandRecord): readonly (readonly [string, string | number | undefined])[] {
  const { error, result } = command;
  return [
    ['command', command.id],
    ['host', command.host],
    ['method', command.method],
    ['vm', command.vm],
    ['by', command.actor],
    ['state', command.state],
    ['begun', command.createdAt],
    ['given up', command.endedAt === undefined ? command.expiresAt : undefined],
    ['ended', command.endedAt],
    ['sent', `${command.sends} times`],
    ['params', command.params],
    ['error', error && `${error.message} (${error.code})`],
    ['result', result === undefined ? undefined : JSON.stringify(result)],
  ];
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
