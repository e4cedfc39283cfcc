/** `fairlead rollout pause|resume|abort|…`: orders to a rollout. Each is durable when the command returns, and may be repeated. */
import { type Command, Option } from 'commander';
import type { RollbackScope } from '../../shared/protocol/rollout-spec.ts';
import type { RolloutSummary } from '../../shared/protocol/rollout-status.ts';
import { type App, type Session, withHub } from '../app.ts';
import { parseInteger } from '../integer.ts';
import { summaryLines } from '../rollout-text.ts';

interface Reasoned {
  readonly reason?: string;
}

type Give<O> = (hub: Session['hub'], base: { rollout: string; reason: string }, options: O) => Promise<RolloutSummary>;

export function registerRolloutOrders(rollout: Command, app: App): void {
  const order = <O extends Reasoned>(verb: string, description: string, give: Give<O>): Command =>
    rollout
      .command(`${verb} <rollout>`)
      .description(description)
      .option('--reason <text>', 'why, for the journal')
      .action(async (id: string, options: O, command: Command) =>
        withHub(app, command, async ({ hub, output }) => {
          const summary = await give(hub, { rollout: id, reason: options.reason ?? '' }, options);
          output.record(summary, summaryLines(summary), summary.rollout);
        }),
      );

  order('pause', 'start no further host; what is under way ends', (hub, base) => hub.call('rollout.pause', base));
  order('resume', 'let it go on', (hub, base) => hub.call('rollout.resume', base));
  order('abort', 'end it where it is', (hub, base) => hub.call('rollout.abort', base));
  order('retry-failed', 'try its failed hosts once more', (hub, base) => hub.call('rollout.retryFailed', base));
  order<Reasoned & { scope?: RollbackScope }>(
    'rollback',
    'take hosts back to what they were, newest first',
    (hub, base, { scope }) => hub.call('rollout.rollback', { ...base, ...(scope === undefined ? {} : { scope }) }),
  ).addOption(new Option('--scope <scope>', 'which hosts').choices(['touched', 'failed', 'failed-zones']));
  order<Reasoned & { wave?: number }>('promote', 'leave the soak or gate of a wave; needs --reason', (hub, base, { wave }) =>
    hub.call('rollout.promote', { ...base, ...(wave === undefined ? {} : { wave }) }),
  ).option('--wave <number>', 'only if it is at this wave, counted from 0', parseInteger);
  order<Reasoned & { wave?: number }>('approve', 'approve what it asks people for', (hub, base, { wave }) =>
    hub.call('rollout.approve', { ...base, ...(wave === undefined ? {} : { wave }) }),
  ).option('--wave <number>', 'only if it is at this wave, counted from 0', parseInteger);
  order<Reasoned & { host: string }>('skip', 'leave out a host, or count a failed one as seen to', (hub, base, { host }) =>
    hub.call('rollout.skip', { ...base, host }),
  ).requiredOption('--host <host>', 'which');
  order<Reasoned & { maxInFlight: number }>(
    'rate',
    'change how many hosts may be under way at once',
    (hub, base, { maxInFlight }) => hub.call('rollout.rate', { ...base, maxInFlight }),
  ).requiredOption('--max-in-flight <number>', 'how many', parseInteger);
  registerFreeze(rollout, app);
}

function registerFreeze(rollout: Command, app: App): void {
  rollout
    .command('freeze')
    .description('start no host in any rollout; taking back goes on')
    .requiredOption('--reason <text>', 'why; it is told to whoever waits')
    .action(async ({ reason }: { reason: string }, command: Command) =>
      withHub(app, command, async ({ hub, output }) => {
        const { frozen } = await hub.call('rollout.freeze', { reason });
        output.record({ frozen }, [['frozen', frozen && `by ${frozen.by}: ${frozen.reason}`]]);
      }),
    );
  rollout
    .command('unfreeze')
    .description('let rollouts go on')
    .action(async (_options: object, command: Command) =>
      withHub(app, command, async ({ hub, output }) =>
        output.record(await hub.call('rollout.unfreeze', {}), [['frozen', 'no more']]),
      ),
    );
}
