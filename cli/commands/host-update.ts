/** `fairlead host update|release`: which release of the agent a host runs. */
import type { Command } from 'commander';
import { type App, withHub } from '../app.ts';
import { parseDuration } from '../duration.ts';

interface UpdateOptions {
  readonly signature?: string;
  readonly healthTimeout: number;
}

const DEFAULT_HEALTH_MS = 60_000;
/** For the old agent to end and, where the new one fails, to come back. */
const AROUND_MS = 120_000;

export function registerHostUpdate(host: Command, app: App): void {
  host
    .command('update <host> <release>')
    .description('change its agent for a release (TAG, digest or `installed`); one that does not prove itself is left again')
    .option('--signature <text>', 'of `fairlead release sign`')
    .option('--health-timeout <duration>', 'by when it must have its VMs and its line', parseDuration, DEFAULT_HEALTH_MS)
    .action(async (name: string, release: string, { signature, healthTimeout }: UpdateOptions, command: Command) =>
      withHub(app, command, async ({ hub, output, options }) => {
        const params = { host: name, release, healthTimeoutMs: healthTimeout, ...(signature && { signature }) };
        const { previous, ...runs } = await hub.client.call('agent.update', params, {
          // Its line breaks on the way, whatever the caller wants of hosts that are away.
          whenOffline: 'queue',
          commandId: options.commandId,
          timeoutMs: options.timeout + healthTimeout + AROUND_MS,
          signal: app.signal,
        });
        output.record({ ...runs, previous }, [
          ['release', runs.release],
          ['version', runs.version],
          ['before', previous],
        ]);
      }),
    );

  host
    .command('release <host>')
    .description('which release of the agent it runs')
    .action(async (name: string, _options: object, command: Command) =>
      withHub(app, command, async ({ hub, output }) => {
        const told = await hub.call('agent.release', {}, name);
        const { lastUpdate, fallback } = told;
        output.record(told, [
          ['release', told.release],
          ['version', told.version],
          ['before', told.previous],
          ['on trial', told.onTrial ? 'yes' : undefined],
          ['can be updated', told.updatable ? 'yes' : 'no: its agent was not begun by `fairlead launch`'],
          ['crashes in a row', told.crashes],
          ['fell back', fallback && `${fallback.at} from ${fallback.release}: ${fallback.failure}`],
          ['last update', lastUpdate && `${lastUpdate.at} ${lastUpdate.release}: ${lastUpdate.failure ?? 'kept'}`],
        ]);
      }),
    );
}
