/** `fairlead host label|cordon|uncordon|drain`: what a host is for, and whether it takes VMs. */
import type { Command } from 'commander';
import { FairleadError } from '../../shared/errors.ts';
import { type App, withHub } from '../app.ts';
import { parseDuration } from '../duration.ts';

interface DrainOptions {
  readonly reason: string;
  readonly grace: number;
  readonly suspend?: boolean;
}

const DEFAULT_GRACE_MS = 30_000;

export function registerHostUpkeep(host: Command, app: App): void {
  host
    .command('label <host> <label...>')
    .description('set labels (KEY=VALUE) and take some away (KEY-)')
    .action(async (name: string, labels: string[], _options: object, command: Command) =>
      withHub(app, command, async ({ hub, output }) => {
        const record = await hub.call('host.label', { host: name, ...changesOf(labels) });
        output.record(record, Object.entries(record.labels), name);
      }),
    );

  host
    .command('cordon <host>')
    .description('let it take no new VMs')
    .option('--reason <text>', 'for those who wonder why', '')
    .action(async (name: string, { reason }: { reason: string }, command: Command) =>
      withHub(app, command, async ({ hub, output }) => {
        await hub.call('host.cordon', { host: name, reason });
        output.say(`host ${name} takes no new VMs`);
      }),
    );

  host
    .command('uncordon <host>')
    .description('let it take VMs again')
    .action(async (name: string, _options: object, command: Command) =>
      withHub(app, command, async ({ hub, output }) => {
        await hub.call('host.uncordon', { host: name });
        output.say(`host ${name} takes VMs`);
      }),
    );

  host
    .command('drain <host>')
    .description('cordon it and put its VMs to rest; --timeout is for all of it')
    .option('--reason <text>', 'for those who wonder why', '')
    .option('--grace <duration>', 'time for each guest to shut down by itself', parseDuration, DEFAULT_GRACE_MS)
    .option('--suspend', 'suspend them instead of stopping them')
    .action(async (name: string, { reason, grace, suspend = false }: DrainOptions, command: Command) =>
      withHub(app, command, async ({ hub, output, options }) => {
        const onProgress = (value: unknown) => {
          if (output.format === 'table') output.say(`  ${JSON.stringify(value)}`);
        };
        const params = { host: name, reason, graceMs: grace, suspend };
        const limits = { timeoutMs: options.timeout, signal: app.signal, onProgress };
        const { rested, failed } = await hub.client.call('host.drain', params, limits);
        output.say(`host ${name} takes no new VMs; ${rested.length} were put to rest`);
        const [first] = failed;
        if (first === undefined) return;
        const message = `${failed.length} VMs of host ${name} could not be put to rest: ${first.vm}: ${first.message}`;
        throw new FairleadError('PROCESS_FAILED', message);
      }),
    );
}

function changesOf(words: readonly string[]): { set: Record<string, string>; remove: string[] } {
  const set: Record<string, string> = {};
  const remove: string[] = [];
  for (const word of words) {
    const equals = word.indexOf('=');
    if (equals > 0) set[word.slice(0, equals)] = word.slice(equals + 1);
    else if (word.endsWith('-')) remove.push(word.slice(0, -1));
    else throw new FairleadError('INVALID_PARAMS', `${word} is neither KEY=VALUE nor KEY-`);
  }
  return { set, remove };
}
