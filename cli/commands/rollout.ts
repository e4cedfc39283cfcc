/** `fairlead rollout plan|start|ls|show|hosts|watch`: changes that go over the fleet, host by host. Orders to one are rollout-orders.ts. */
import type { Command } from 'commander';
import type { ParamsInput } from '../../shared/protocol/methods.ts';
import type { RolloutForecast } from '../../shared/protocol/rollout-plan.ts';
import type { RolloutHost, RolloutSummary } from '../../shared/protocol/rollout-status.ts';
import { type App, type Session, withHub } from '../app.ts';
import { age, type Output } from '../output.ts';
import { readDocument } from '../read-document.ts';
import { durationText, summaryLines, waveText } from '../rollout-text.ts';
import { registerRolloutOrders } from './rollout-orders.ts';
import { registerRolloutWatch } from './rollout-watch.ts';

type SpecInput = ParamsInput<'rollout.start'>['spec'];

interface StartOptions {
  readonly file: string;
  readonly id?: string;
  readonly planned?: string;
}

export function registerRollout(program: Command, app: App): void {
  const rollout = program.command('rollout').description('changes that go over the fleet, host by host, and back');
  registerMaking(rollout, app);
  registerLooking(rollout, app);
  registerRolloutOrders(rollout, app);
  registerRolloutWatch(rollout, app);
}

function registerMaking(rollout: Command, app: App): void {
  rollout
    .command('plan')
    .description('what it would do: waves, canary, worst case of each zone, duration; nothing is started')
    .requiredOption('-f, --file <path>', 'the rollout in YAML or JSON; - is standard input')
    .option('--id <name>', 'as which it will be started; it decides who is the canary')
    .action(async (options: StartOptions, command: Command) =>
      withHub(app, command, async ({ hub, output }) => {
        // SAFETY: the hub validates it by the contract, and tells where it is wrong.
        const spec = (await readDocument(options.file, app)) as SpecInput;
        const rolloutId = options.id === undefined ? {} : { rollout: options.id };
        printForecast(output, await hub.call('rollout.plan', { spec, ...rolloutId }));
      }),
    );

  rollout
    .command('start')
    .description('start it; the same id and file again starts nothing')
    .requiredOption('-f, --file <path>', 'the rollout in YAML or JSON; - is standard input')
    .option('--id <name>', 'its name from now on; one is made up otherwise')
    .option('--planned <digest>', 'only if it is for the hosts of that plan (HOSTS DIGEST)')
    .action(async (options: StartOptions, command: Command) =>
      withHub(app, command, async ({ hub, output }) => {
        // SAFETY: the hub validates it by the contract, and tells where it is wrong.
        const spec = (await readDocument(options.file, app)) as SpecInput;
        const { id = madeUpId(), planned } = options;
        const hosts = planned === undefined ? {} : { hostsDigest: planned };
        printSummary(output, await hub.call('rollout.start', { rollout: id, spec, ...hosts }));
      }),
    );
}

function registerLooking(rollout: Command, app: App): void {
  rollout
    .command('ls')
    .alias('list')
    .description('every rollout, newest first')
    .action(async (_options: object, command: Command) =>
      withHub(app, command, async ({ hub, output }) => {
        const { rollouts } = await hub.call('rollout.list', {});
        const now = Date.now();
        output.list(
          rollouts,
          [
            { title: 'ROLLOUT', value: (row) => row.rollout },
            { title: 'NAME', value: (row) => row.name || undefined },
            { title: 'STATUS', value: (row) => row.status },
            { title: 'HOSTS', value: (row) => row.hosts },
            { title: 'BEGUN', value: (row) => age(row.startedAt, now) },
            { title: 'ENDED', value: (row) => age(row.endedAt, now) },
            { title: 'BY', value: (row) => row.startedBy },
          ],
          { name: (row) => row.rollout, empty: 'no rollout yet: start one with `fairlead rollout start -f FILE`' },
        );
      }),
    );

  rollout
    .command('show <rollout>')
    .description('how it stands')
    .action(async (id: string, _options: object, command: Command) =>
      withHub(app, command, async ({ hub, output }) => printSummary(output, await hub.call('rollout.get', { rollout: id }))),
    );

  rollout
    .command('hosts <rollout>')
    .description('how each host of it fares')
    .option('--phase <phase>', 'those alone that are in it, such as failed')
    .action(async (id: string, options: { phase?: RolloutHost['phase'] }, command: Command) =>
      withHub(app, command, async (session) => {
        session.output.list(
          await allHosts(session, id, options.phase),
          [
            { title: 'HOST', value: (row) => row.host },
            { title: 'ZONE', value: (row) => row.zone },
            { title: 'WAVE', value: (row) => row.wave },
            { title: 'PHASE', value: (row) => row.phase },
            { title: 'ATTEMPT', value: (row) => row.attempt },
            {
              title: 'WHY',
              value: whyOf,
            },
          ],
          { name: (row) => row.host, empty: 'none' },
        );
      }),
    );
}

/** Why it could not be restored goes before why it was to be. */
function whyOf({ phase, failure, note }: RolloutHost): string | undefined {
  if (phase === 'undo-failed' || failure === undefined) return note;
  return `${failure.class}: ${failure.error}`;
}

async function allHosts({ hub }: Session, rollout: string, phase: RolloutHost['phase'] | undefined): Promise<RolloutHost[]> {
  const rows: RolloutHost[] = [];
  for (let after: string | undefined; ; ) {
    const params = { rollout, ...(phase === undefined ? {} : { phase }), ...(after === undefined ? {} : { after }) };
    const page = await hub.call('rollout.hosts', params);
    rows.push(...page.hosts);
    if (page.next === undefined) return rows;
    after = page.next;
  }
}

function madeUpId(): string {
  const random = crypto.getRandomValues(new Uint8Array(5));
  return `r-${Array.from(random, (byte) => byte.toString(36).padStart(2, '0')).join('')}`;
}

function printForecast(output: Output, plan: RolloutForecast): void {
  const zones = plan.zones.map(
    ({ zone, hosts, worstUnavailable }) => [`zone ${zone}`, `${hosts} hosts, ${worstUnavailable} away at worst`] as const,
  );
  const waves = plan.waves.map((wave) => [`wave ${wave.wave}`, waveText(wave)] as const);
  output.record(plan, [
    ['hosts', plan.hosts],
    ['hosts digest', plan.hostsDigest],
    ['canary', plan.canary.slice(0, 10).join(', ') + (plan.canary.length > 10 ? ` and ${plan.canary.length - 10} more` : '')],
    ...waves,
    ...zones,
    ['away at once', `${plan.worstUnavailable} at worst`],
    ['takes', `about ${durationText(plan.durationMs)}, without gates, windows and people`],
  ]);
}

function printSummary(output: Output, summary: RolloutSummary): void {
  output.record(summary, summaryLines(summary), summary.rollout);
}
