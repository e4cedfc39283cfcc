/**
 * `fairlead rollout watch`: a line that is written over on a terminal, with what went wrong above it; one line an event anywhere else. Ends with
 * the rollout: 0 when it was completed, or taken back because somebody said so; 1 otherwise.
 */
import type { Command } from 'commander';
import { toFairleadError } from '../../shared/errors.ts';
import { printable } from '../../shared/printable.ts';
import { parseWith } from '../../shared/protocol/parse-with.ts';
import { RolloutEvent, type RolloutFact } from '../../shared/protocol/rollout-events.ts';
import type { RolloutSummary } from '../../shared/protocol/rollout-status.ts';
import { type App, type Session, withHub } from '../app.ts';
import { isTerminal } from '../guest-text.ts';
import { parseInteger } from '../integer.ts';
import { progressLine } from '../rollout-text.ts';

const REDRAW_MS = 250;
const ESCAPE = String.fromCharCode(0x1b);
const CLEAR_LINE = `\r${ESCAPE}[K`;
/** What a person wants to see pass by; the rest is in the bar. */
const TOLD: ReadonlySet<RolloutFact['type']> = new Set([
  'stage-begun',
  'promoted',
  'approved',
  'paused',
  'resumed',
  'aborted',
  'rollback-begun',
  'retried',
  'rate-changed',
  'joined',
  'host-failed',
  'host-skipped',
  'host-passed-over',
  'undo-failed',
  'ended',
]);

export function registerRolloutWatch(rollout: Command, app: App): void {
  rollout
    .command('watch <rollout>')
    .description('follow it until it ends')
    .option('--since <seq>', 'events after this number, as an earlier watch printed it', parseInteger, 0)
    .action(async (id: string, { since }: { since: number }, command: Command) =>
      withHub(app, command, (session) => watch(app, session, id, since), { lasting: true }),
    );
}

async function watch(app: App, session: Session, rollout: string, since: number): Promise<void> {
  const { hub, output } = session;
  const isLive = output.format === 'table' && isTerminal(app.streams.stdout);
  const view = isLive ? new LiveView(app, session, rollout) : undefined;
  let last = since;
  const onProgress = (value: unknown): void => {
    const event = parseWith(RolloutEvent, value, 'event', 'PROTOCOL_ERROR');
    last = event.seq;
    if (output.format !== 'table') output.data(`${JSON.stringify(event)}\n`);
    else if (view === undefined) output.data(`${eventLine(event)}\n`);
    else if (TOLD.has(event.fact.type)) view.above(eventLine(event));
  };
  /** Over broken lines and restarts of the hub: what was seen is not told again. */
  const follow = async (): Promise<void> => {
    const options = { timeoutMs: 0, signal: app.signal, onProgress };
    for (;;) {
      try {
        await hub.client.call('rollout.events', { rollout, since: last, follow: true }, options);
        return;
      } catch (error) {
        if (toFairleadError(error).code !== 'INTERRUPTED') throw error;
      }
    }
  };
  try {
    await follow();
  } finally {
    view?.[Symbol.dispose]();
  }
  const summary = await hub.call('rollout.get', { rollout });
  if (output.format === 'table') output.data(`${progressLine(summary)}\n`);
  app.exitCode = isGood(summary) ? 0 : 1;
}

/** Asks how the rollout stands a few times a second, and never twice at once. */
class LiveView implements Disposable {
  readonly #app: App;
  readonly #session: Session;
  readonly #rollout: string;
  readonly #timer: NodeJS.Timeout;
  #line = '';
  #isAsking = false;
  #isOver = false;

  constructor(app: App, session: Session, rollout: string) {
    this.#app = app;
    this.#session = session;
    this.#rollout = rollout;
    this.#timer = setInterval(() => void this.#ask(), REDRAW_MS);
  }

  above(line: string): void {
    this.#app.streams.stdout.write(`${CLEAR_LINE}${printable(line)}\n${this.#line}`);
  }

  [Symbol.dispose](): void {
    this.#isOver = true;
    clearInterval(this.#timer);
    this.#app.streams.stdout.write(CLEAR_LINE);
  }

  async #ask(): Promise<void> {
    if (this.#isAsking) return;
    this.#isAsking = true;
    try {
      const summary = await this.#session.hub.call('rollout.get', { rollout: this.#rollout });
      // What was asked before the end is answered after the last line.
      if (this.#isOver) return;
      const { stdout } = this.#app.streams;
      // A terminal that nobody has given a size says 0.
      const columns = 'columns' in stdout && typeof stdout.columns === 'number' && stdout.columns > 0 ? stdout.columns : 80;
      this.#line = printable(progressLine(summary, columns - 1)).slice(0, columns - 1);
      this.#app.streams.stdout.write(`${CLEAR_LINE}${this.#line}`);
    } catch {
      // The line to the hub broke: whoever follows the events says so, or goes on.
    } finally {
      this.#isAsking = false;
    }
  }
}

function eventLine({ seq, at, fact }: RolloutEvent): string {
  const { type, ...about } = fact;
  const words = Object.entries(about).map(
    ([key, value]) => `${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`,
  );
  return [at, String(seq), type, ...words].join('  ');
}

/** A rollback that a rule began is a change that did not work. */
export function isGood({ status, phases, stopped }: Pick<RolloutSummary, 'status' | 'phases' | 'stopped'>): boolean {
  if (status === 'rolled-back') return stopped?.isByPerson === true;
  return status === 'completed' && phases.failed === undefined;
}
