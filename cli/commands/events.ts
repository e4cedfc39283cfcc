/** `fairlead events` and `fairlead audit`: what happened in the fleet, and who called for what, as the hub keeps both. */
import type { Command } from 'commander';
import { FleetEvent } from '../../shared/protocol/fleet-events.ts';
import type { ParamsInput, Result } from '../../shared/protocol/methods.ts';
import { parseWith } from '../../shared/protocol/validate.ts';
import { type App, withHub } from '../app.ts';
import { parseInteger } from '../integer.ts';
import type { Column, Output } from '../output.ts';

type AuditEntry = Result<'audit.list'>['entries'][number];

interface EventOptions {
  readonly since?: number;
  readonly epoch?: string;
  readonly host?: string;
  readonly vm?: string;
  readonly type?: string[];
  readonly limit: number;
  readonly follow?: boolean;
}

interface AuditOptions {
  readonly since?: number;
  readonly actor?: string;
  readonly method?: string;
  readonly host?: string;
  readonly limit: number;
}

const DEFAULT_LIMIT = 256;

export function registerEvents(program: Command, app: App): void {
  program
    .command('events')
    .description('what happened in the whole fleet, in one sequence')
    .option('--follow', 'go on with each new one until interrupted; without --since from now on')
    .option('--since <seq>', 'only those after this sequence number', parseInteger)
    .option('--epoch <epoch>', 'of which --since is: another one counts from the beginning')
    .option('--host <host>', 'of this host alone')
    .option('--vm <vm>', 'of VMs of this name alone')
    .option('--type <type...>', 'of these types, or that begin so: vm. or host.')
    .option('--limit <number>', 'at most so many', parseInteger, DEFAULT_LIMIT)
    .action(async ({ type, ...options }: EventOptions, command: Command) =>
      withHub(app, command, async ({ hub, output }) => {
        const params: ParamsInput<'event.list'> = { ...options, ...(type === undefined ? {} : { types: type }) };
        if (options.follow === true) {
          const onProgress = (value: unknown) => printLine(output, parseWith(FleetEvent, value, 'event', 'PROTOCOL_ERROR'));
          await hub.client
            .call('event.list', params, { timeoutMs: 0, signal: app.signal, onProgress })
            .catch((error: unknown) => {
              if (!app.signal.aborted) throw error;
            });
          return;
        }
        const { events, missed, epoch } = await hub.call('event.list', params);
        if (missed > 0) output.say(`${missed} events after ${options.since ?? 0} are forgotten`);
        output.list(events, EVENT_COLUMNS, { name: (event) => String(event.seq), empty: `no events in epoch ${epoch}` });
      }),
    );

  program
    .command('audit')
    .description('who called what, when, and how it ended')
    .option('--since <seq>', 'only calls after this number', parseInteger)
    .option('--actor <token>', 'with this token alone, by its id')
    .option('--method <method>', 'of this method alone')
    .option('--host <host>', 'for this host alone')
    .option('--limit <number>', 'at most so many', parseInteger, DEFAULT_LIMIT)
    .action(async (options: AuditOptions, command: Command) =>
      withHub(app, command, async ({ hub, output }) => {
        const { entries, missed } = await hub.call('audit.list', options);
        if (missed > 0) output.say(`${missed} calls after ${options.since ?? 0} are forgotten`);
        output.list(entries, AUDIT_COLUMNS, { name: (entry) => String(entry.seq), empty: 'no calls' });
      }),
    );
}

const EVENT_COLUMNS: readonly Column<FleetEvent>[] = [
  { title: 'SEQ', value: ({ seq }) => seq },
  { title: 'TIME', value: ({ source, at }) => source?.time ?? at },
  { title: 'HOST', value: ({ host }) => host },
  { title: 'VM', value: ({ vm }) => vm },
  { title: 'EVENT', value: ({ type }) => type },
  { title: 'DATA', value: ({ data }) => (Object.keys(data).length === 0 ? '' : JSON.stringify(data)) },
];

const AUDIT_COLUMNS: readonly Column<AuditEntry>[] = [
  { title: 'SEQ', value: ({ seq }) => seq },
  { title: 'TIME', value: ({ at }) => at },
  { title: 'ACTOR', value: ({ actor }) => actor },
  { title: 'METHOD', value: ({ method }) => method },
  { title: 'HOST', value: ({ host }) => host },
  { title: 'RESULT', value: ({ code }) => code },
  { title: 'COMMAND', value: ({ commandId }) => commandId },
  { title: 'PARAMS', value: ({ params }) => params },
];

/** One line in every format, since the end of the list is not known. */
function printLine(output: Output, event: FleetEvent): void {
  const cells = EVENT_COLUMNS.map(({ value }) => String(value(event) ?? '-'));
  output.data(output.format === 'table' ? `${cells.join('  ').trimEnd()}\n` : `${JSON.stringify(event)}\n`);
}
