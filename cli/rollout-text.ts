/** Rollouts in words and bars. */
import type { WaveForecast } from '../shared/protocol/rollout-plan.ts';
import type { RolloutSummary } from '../shared/protocol/rollout-status.ts';

const BAR_WIDTH = 30;
const LEAST_BAR_WIDTH = 4;

export function summaryLines(summary: RolloutSummary): readonly (readonly [string, string | number | undefined])[] {
  const { paused, stopped } = summary;
  return [
    ['rollout', summary.rollout],
    ['name', summary.name],
    ['status', summary.status],
    ['paused', paused && becauseText(paused)],
    ['stopped', stopped && becauseText(stopped)],
    ['waits', summary.blocked],
    ['wave', `${summary.wave + 1} of ${summary.waves}, ${summary.stage}`],
    ['hosts', `${summary.hosts}: ${countsText(summary.phases)}`],
    ['failures', countsText(summary.failures) || undefined],
    ['under way', `${summary.inFlight} of ${summary.window} at once`],
    ['started', `${summary.startedAt} by ${summary.startedBy}`],
    ['ended', summary.endedAt],
  ];
}

/**
 * One line, for a terminal that is written over: `r1  running  wave 2/3  [#####.....]  41/100  3 under way  1 failed`. Where it is narrow, the
 * figures are told before the bar.
 */
export function progressLine(summary: RolloutSummary, columns = Number.POSITIVE_INFINITY): string {
  const { rollout, status, wave, waves, hosts, phases, inFlight } = summary;
  const isBack = status === 'rolling-back' || status === 'rolled-back' || status === 'rollback-failed';
  const settled = isBack ? (phases.restored ?? 0) : (phases.done ?? 0) + (phases.failed ?? 0) + (phases.skipped ?? 0);
  const failed = phases.failed === undefined ? '' : `  ${phases.failed} failed`;
  const why = summary.paused?.reason ?? summary.blocked;
  const before = `${rollout}  ${status}  wave ${wave + 1}/${waves}  [`;
  const after = `]  ${settled}/${hosts}  ${inFlight} under way${failed}${why === undefined ? '' : `  (${why})`}`;
  const width = Math.max(LEAST_BAR_WIDTH, Math.min(BAR_WIDTH, columns - before.length - after.length));
  const filled = hosts === 0 ? 0 : Math.floor((settled / hosts) * width);
  return `${before}${'#'.repeat(filled)}${'.'.repeat(width - filled)}${after}`;
}

export function waveText({ hosts, durationMs, compared }: WaveForecast): string {
  const gate = compared === undefined ? '' : `, then ${compared.changed} are compared with ${compared.unchanged} unchanged`;
  return `${hosts} hosts, about ${durationText(durationMs)}${gate}`;
}

export function durationText(ms: number): string {
  if (ms < 120_000) return `${Math.round(ms / 1000)}s`;
  const minutes = Math.round(ms / 60_000);
  return minutes < 120 ? `${minutes}m` : `${Math.floor(minutes / 60)}h ${minutes % 60}m`;
}

function becauseText({ by, reason }: { readonly by: string; readonly reason: string }): string {
  return reason === '' ? `by ${by}` : `by ${by}: ${reason}`;
}

function countsText(counts: Readonly<Partial<Record<string, number>>>): string {
  return Object.entries(counts)
    .map(([what, count]) => `${count} ${what}`)
    .join(', ');
}
