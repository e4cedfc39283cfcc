/**
 * The restart policy of a VM: whether it is started again after an end, and when. Pure; supervisor.ts keeps the time.
 *
 *     at rest ── started ──▶ runs ── ends ──▶ planned (attempt n, due at a time) ── due ──▶ started again
 *        ▲                                       │
 *        └──────────── vm.stop, vm.start, vm.delete: the plan is dropped ◀┘
 *
 * Waits are of full jitter and double from `delayMs` to `maxDelayMs` (shared/backoff.ts); a run of `healthyMs` begins the count anew. The
 * plan is part of the VM's record, so an agent that comes back keeps it. The policy never gives up; from the fifth attempt in a row on,
 * the plan says that this is a loop.
 */
import { Backoff } from '../../shared/backoff.ts';
import type { VmSpec } from '../../shared/protocol/vm-spec.ts';

/** Where the policy stands: attempts since the last healthy run, and when the next is due. Without `dueAt` it is being made, or runs. */
export interface RestartPlan {
  readonly attempts: number;
  readonly dueAt?: string | undefined;
}

export interface DueRestart extends RestartPlan {
  readonly dueAt: string;
}

export interface EndToPlanFor {
  readonly policy: VmSpec['restart'];
  readonly before: RestartPlan | undefined;
  /** An end that somebody wished for. */
  readonly isClean: boolean;
  /** By `vm.stop` or `vm.delete`. */
  readonly isByHand: boolean;
  /** How long the process lived. */
  readonly ranMs: number;
  readonly now: number;
  readonly random?: (() => number) | undefined;
}

const LOOP_ATTEMPTS = 5;

/** The plan after an end, or undefined when the VM is to stay as it is. */
export function planRestart(end: EndToPlanFor): DueRestart | undefined {
  const { policy, before, isClean, isByHand, ranMs, now, random } = end;
  if (isByHand || policy.policy === 'never' || (policy.policy === 'on-failure' && isClean)) return undefined;
  const { delayMs: baseMs, maxDelayMs: maxMs, healthyMs } = policy;
  const backoff = new Backoff({ baseMs, maxMs, healthyMs, failures: before?.attempts ?? 0, random });
  const delayMs = Math.round(backoff.failed(ranMs));
  return { attempts: backoff.failures, dueAt: new Date(now + delayMs).toISOString() };
}

export function isCrashLoop({ attempts }: RestartPlan): boolean {
  return attempts >= LOOP_ATTEMPTS;
}

/** 0 for one that is overdue. */
export function waitOf(dueAt: string, now: number): number {
  return Math.max(0, Date.parse(dueAt) - now);
}
