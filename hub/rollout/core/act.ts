/**
 * What people may do to a rollout, in every state. The second of two equal actions changes nothing and is no error; what makes no sense in a
 * state is refused with WRONG_STATE and the reason. An abort is never refused.
 *
 *                     forward        forward, paused   aborting      backward      completed     aborted       rolled-back    rollback-failed
 *     pause           pauses         -                 refused       pauses        refused       refused       refused        refused
 *     resume          -              goes on           refused       goes on       refused       refused       refused        refused
 *     abort           aborts         aborts            -             aborts        -             -             -              -
 *     rollback        takes back     takes back        takes back    -             takes back    takes back    -              takes back
 *     promote         leaves soak, gate or approval    refused       refused       refused       refused       refused        refused
 *     approve         at a gate for people, else -     refused       refused       refused       refused       refused        refused
 *     retry-failed    tries again    tries again       refused       refused       tries again   refused       refused        refused
 *     skip            of hosts that are not under way  refused       refused       refused       refused       refused        refused
 *     rate            changes it     changes it        refused       changes it    refused       refused       refused        refused
 *
 *     `-`: nothing to be done. Aborting a rollback leaves what is not restored as it is, and ends as `aborted`.
 */
import { FairleadError } from '../../../shared/errors.ts';
import type { RollbackScope } from '../../../shared/protocol/rollout-spec.ts';
import { isSettled, leaveStage } from './stages.ts';
import type { HostState } from './state.ts';
import { statusOf } from './status.ts';
import type { Turn } from './turn.ts';

export type Action =
  | { readonly kind: 'pause' | 'resume' | 'abort' | 'retry-failed' }
  /** The wave at hand unless given; of one that has been left already it is done. */
  | { readonly kind: 'promote'; readonly wave?: number | undefined }
  | { readonly kind: 'approve'; readonly wave?: number | undefined }
  /** `except`: hosts that a later rollout has changed since. */
  | { readonly kind: 'rollback'; readonly scope?: RollbackScope | undefined; readonly except: readonly string[] }
  | { readonly kind: 'skip'; readonly host: string }
  | { readonly kind: 'rate'; readonly maxInFlight: number };

export interface Order {
  readonly action: Action;
  readonly actor: string;
  readonly reason: string;
}

/** @throws FairleadError WRONG_STATE, NOT_FOUND (no such host in the plan), PERMISSION_DENIED (another has to approve) */
export function act(turn: Turn, { action, actor, reason }: Order): void {
  const by = { kind: 'person', actor } as const;
  HANDLERS[action.kind](turn, action, { by, reason });
}

type Because = { readonly by: { readonly kind: 'person'; readonly actor: string }; readonly reason: string };
type Handler<A = never> = (turn: Turn, action: A, because: Because) => void;

const pause: Handler<unknown> = (turn, _action, because) => {
  requirePhase(turn, ['forward', 'backward'], 'be paused');
  if (turn.state.paused?.isByPerson !== true) turn.emit({ type: 'paused', ...because });
};

const resume: Handler<unknown> = (turn, _action, because) => {
  requirePhase(turn, ['forward', 'backward'], 'be resumed');
  if (turn.state.paused !== undefined) turn.emit({ type: 'resumed', ...because });
};

const abort: Handler<unknown> = (turn, _action, because) => {
  const { kind } = turn.state.phase;
  if (kind === 'forward' || kind === 'backward') turn.emit({ type: 'aborted', ...because });
};

const rollback: Handler<Extract<Action, { kind: 'rollback' }>> = (turn, { scope, except }, because) => {
  const { phase, spec } = turn.state;
  if (phase.kind === 'backward' || (phase.kind === 'ended' && phase.outcome === 'rolled-back')) return;
  turn.emit({ type: 'rollback-begun', scope: scope ?? spec.rollback.scope, except: [...except], ...because });
};

const promote: Handler<Extract<Action, { kind: 'promote' }>> = (turn, { wave = turn.state.wave }, because) => {
  const { state } = turn;
  if (wave < state.wave) return;
  requirePhase(turn, ['forward'], 'be promoted');
  const isAhead = wave > state.wave || state.stage === 'late-joiners';
  if (isAhead || (state.stage === 'hosts' && !isSettled(state))) refuse(turn, 'be promoted', `wave ${wave} is at its hosts`);
  if (state.stage === 'to-be-approved' || state.stage === 'approval') refuse(turn, 'be promoted', 'it has to be approved');
  turn.emit({ type: 'promoted', wave, ...because });
  leaveStage(turn);
};

const approve: Handler<Extract<Action, { kind: 'approve' }>> = (turn, { wave = turn.state.wave }, because) => {
  const { state } = turn;
  if (wave < state.wave) return;
  requirePhase(turn, ['forward'], 'be approved');
  const isAsked = state.stage === 'to-be-approved' || state.stage === 'approval';
  if (!isAsked || wave !== state.wave) return;
  if (state.spec.approval === 'another' && because.by.actor === state.startedBy) {
    throw new FairleadError(
      'PERMISSION_DENIED',
      `rollout ${state.id} was started by ${state.startedBy}: another has to approve it`,
    );
  }
  turn.emit({ type: 'approved', wave, ...because });
  leaveStage(turn);
};

const retryFailed: Handler<unknown> = (turn, _action, because) => {
  const { phase, hosts } = turn.state;
  if (phase.kind !== 'forward' && !(phase.kind === 'ended' && phase.outcome === 'completed')) refuse(turn, 'try its hosts again');
  const failed = [...hosts.values()].filter((host) => host.phase === 'failed').map(({ host }) => host);
  if (failed.length > 0) turn.emit({ type: 'retried', hosts: failed, ...because });
};

const SKIPPABLE: ReadonlySet<HostState['phase']> = new Set(['pending', 'waiting', 'failed']);

const skip: Handler<Extract<Action, { kind: 'skip' }>> = (turn, { host: name }, because) => {
  const host = turn.state.hosts.get(name);
  if (host === undefined) throw new FairleadError('NOT_FOUND', `rollout ${turn.state.id} has no host ${name} in its plan`);
  requirePhase(turn, ['forward'], 'skip a host');
  if (host.phase === 'skipped') return;
  if (!SKIPPABLE.has(host.phase)) refuse(turn, 'skip a host', `host ${name} is ${host.phase}`);
  turn.emit({ type: 'host-skipped', host: name, ...because });
};

const rate: Handler<Extract<Action, { kind: 'rate' }>> = (turn, { maxInFlight }, because) => {
  requirePhase(turn, ['forward', 'backward'], 'change its rate');
  if (turn.state.maxInFlight !== maxInFlight) turn.emit({ type: 'rate-changed', maxInFlight, ...because });
};

// SAFETY: each handler is under the kind of its own action, and `act` looks it up by that kind.
const HANDLERS = { pause, resume, abort, rollback, promote, approve, 'retry-failed': retryFailed, skip, rate } as Readonly<
  Record<Action['kind'], Handler<Action>>
>;

function requirePhase(turn: Turn, kinds: readonly string[], what: string): void {
  if (!kinds.includes(turn.state.phase.kind)) refuse(turn, what);
}

function refuse({ state }: Turn, what: string, why?: string): never {
  const status = statusOf(state);
  const message = `rollout ${state.id} cannot ${what}: ${why ?? `it is ${status}`}`;
  throw new FairleadError('WRONG_STATE', message, { details: { state: status } });
}
