/**
 * What hosts and gates answer. An answer that belongs to nothing that is under way (any more) is dropped: of an attempt before, of a check run
 * that was begun anew, of a host that was settled meanwhile.
 */
import type { FailureClass } from '../../../shared/protocol/rollout-spec.ts';
import { type Answer, type CheckRun, hear, type Verdict } from './check-run.ts';
import { react } from './react.ts';
import type { HostState } from './state.ts';
import type { Turn } from './turn.ts';

export type Report =
  | { readonly kind: 'recorded'; readonly host: string; readonly attempt: number; readonly previous: readonly unknown[] }
  | { readonly kind: 'changed'; readonly host: string; readonly attempt: number }
  | {
      readonly kind: 'failed';
      readonly host: string;
      readonly attempt: number;
      readonly class: FailureClass;
      readonly error: string;
    }
  | { readonly kind: 'checked'; readonly host: string; readonly run: number; readonly answer: Answer; readonly detail: string }
  | { readonly kind: 'gate-answered'; readonly run: number; readonly answer: Answer; readonly detail: string }
  | { readonly kind: 'restored'; readonly host: string; readonly attempt: number }
  | { readonly kind: 'undo-failed'; readonly host: string; readonly attempt: number; readonly error: string };

/** Of an error that is told in the journal. */
const MAX_WORDS = 2000;

export function hearReport(turn: Turn, report: Report): void {
  if (report.kind === 'gate-answered') return hearGate(turn, report);
  const host = turn.state.hosts.get(report.host);
  if (host === undefined) return;
  if (report.kind === 'checked') return hearCheck(turn, host, report);
  if (report.kind === 'restored' || report.kind === 'undo-failed') return hearUndo(turn, host, report);
  if (host.attempt !== report.attempt) return;
  if (report.kind === 'recorded' && host.phase === 'recording') {
    turn.emit({ type: 'host-recorded', host: host.host, previous: [...report.previous] });
  }
  if (report.kind === 'changed' && host.phase === 'changing') hostChanged(turn, host);
  if (report.kind === 'failed' && (host.phase === 'recording' || host.phase === 'changing')) {
    failHost(turn, host, report.class, report.error);
  }
}

export function failHost(turn: Turn, host: HostState, failure: FailureClass, error: string): void {
  turn.emit({ type: 'host-failed', host: host.host, class: failure, error: words(error) });
}

/** On its way back or to an end, nobody waits for the health of a host. */
function hostChanged(turn: Turn, { host }: HostState): void {
  const { checks, minHealthyMs } = turn.state.spec.health;
  const isWatched = turn.state.phase.kind === 'forward' && (checks.length > 0 || minHealthyMs > 0);
  turn.emit({ type: isWatched ? 'host-changed' : 'host-done', host });
}

function hearUndo(turn: Turn, host: HostState, report: Extract<Report, { kind: 'restored' | 'undo-failed' }>): void {
  if (host.phase !== 'undoing' || host.undoAttempt !== report.attempt) return;
  if (report.kind === 'restored') turn.emit({ type: 'host-restored', host: host.host });
  else turn.emit({ type: 'undo-failed', host: host.host, error: words(report.error) });
}

function hearCheck(turn: Turn, host: HostState, { run, answer, detail }: Extract<Report, { kind: 'checked' }>): void {
  const { health } = turn.state.spec;
  const { checks } = host;
  if (!isCurrent(checks, run)) return;
  const verdict = hear(checks, answer, turn.world.t, { ...health, patient: true });
  if (verdict === 'passed') turn.emit({ type: 'host-done', host: host.host });
  else if (verdict === 'failed') failHost(turn, host, 'unhealthy', detail);
  else if (verdict === undefined) turn.ask({ kind: 'check', host: host.host, run, delayMs: health.intervalMs });
  else {
    checks.stopped = true;
    react(turn, 'health', 'pause', words(`the health of host ${host.host} cannot be told: ${detail}`));
  }
}

function hearGate(turn: Turn, { run, answer, detail }: Extract<Report, { kind: 'gate-answered' }>): void {
  const { gate, wave, spec } = turn.state;
  const rules = spec.waves[wave]?.gate;
  if (!isCurrent(gate, run) || rules === undefined) return;
  const verdict: Verdict | undefined = hear(gate, answer, turn.world.t, { ...rules, patient: false });
  if (verdict === 'failed') react(turn, 'gate', rules.onFailure, words(`the gate of wave ${wave} failed: ${detail}`));
  else if (verdict === 'inconclusive') react(turn, 'gate', 'pause', words(`the gate of wave ${wave} cannot be told: ${detail}`));
  else if (verdict === undefined) turn.ask({ kind: 'gate', wave, run, delayMs: rules.intervalMs });
  gate.detail = verdict === undefined && answer !== 'success' ? words(detail) : undefined;
  // What has passed is seen by the schedule, which begins the next stage.
  gate.stopped = verdict !== undefined;
  gate.passed = verdict === 'passed';
}

function isCurrent(run: CheckRun | undefined, id: number): run is CheckRun {
  return run?.id === id && !run.stopped;
}

function words(text: string): string {
  return text.slice(0, MAX_WORDS);
}
