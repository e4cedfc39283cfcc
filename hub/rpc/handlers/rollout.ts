/** Methods about rollouts. */
import type { Params, Result } from '../../../shared/protocol/methods.ts';
import type { ROLLOUT_METHODS } from '../../../shared/protocol/methods-rollout.ts';
import { pageFrom } from '../../../shared/protocol/paging.ts';
import type { RolloutSummary } from '../../../shared/protocol/rollout-status.ts';
import type { Images } from '../../images/images.ts';
import { checkSpec } from '../../rollout/check-spec.ts';
import type { Action } from '../../rollout/core/act.ts';
import { hostRow } from '../../rollout/core/status.ts';
import { followRollout } from '../../rollout/follow.ts';
import type { RolloutRecord } from '../../rollout/records.ts';
import type { Rollouts } from '../../rollout/rollouts.ts';
import type { HubCall, HubHandlersOf } from './types.ts';

export interface RolloutServices {
  readonly rollouts: Rollouts;
  readonly images: Images;
  /** Unix milliseconds. */
  now(): number;
}

export function rolloutHandlers({ rollouts, images, now }: RolloutServices): HubHandlersOf<typeof ROLLOUT_METHODS> {
  const order = (params: { rollout: string; reason: string }, action: Action, { caller }: HubCall): Promise<RolloutSummary> =>
    rollouts.order(params.rollout, action, { actor: caller.principal.tokenId, reason: params.reason });
  return {
    'rollout.plan': async ({ rollout, spec }, { caller }) => {
      checkSpec(spec, caller.principal.role);
      return rollouts.plan(rollout, await images.resolvedSteps(spec));
    },
    'rollout.start': async ({ rollout, spec, hostsDigest }, { caller }) => {
      checkSpec(spec, caller.principal.role);
      return rollouts.start(rollout, await images.resolvedSteps(spec), { actor: caller.principal.tokenId, hostsDigest });
    },
    'rollout.pause': (params, call) => order(params, { kind: 'pause' }, call),
    'rollout.resume': (params, call) => order(params, { kind: 'resume' }, call),
    'rollout.abort': (params, call) => order(params, { kind: 'abort' }, call),
    'rollout.rollback': (params, call) => order(params, { kind: 'rollback', scope: params.scope, except: [] }, call),
    'rollout.promote': (params, call) => order(params, { kind: 'promote', wave: params.wave }, call),
    'rollout.approve': (params, call) => order(params, { kind: 'approve', wave: params.wave }, call),
    'rollout.retryFailed': (params, call) => order(params, { kind: 'retry-failed' }, call),
    'rollout.skip': (params, call) => order(params, { kind: 'skip', host: params.host }, call),
    'rollout.rate': (params, call) => order(params, { kind: 'rate', maxInFlight: params.maxInFlight }, call),
    'rollout.get': ({ rollout }) => rollouts.get(rollout),
    'rollout.list': async ({ limit }) => ({ rollouts: (await rollouts.list()).slice(0, limit).map(listRow) }),
    'rollout.hosts': async ({ rollout, phase, ...page }) => {
      const { hosts } = await rollouts.state(rollout);
      const wanted = [...hosts.values()].filter((host) => phase === undefined || host.phase === phase).map(hostRow);
      const sorted = wanted.sort((a, b) => (a.host < b.host ? -1 : 1));
      const { rows, next } = pageFrom(sorted, ({ host }) => host, page);
      return { hosts: [...rows], ...(next === undefined ? {} : { next }) };
    },
    'rollout.events': (params, { context }) => events(rollouts, params, context),
    'rollout.freeze': async ({ reason }, { caller }) => {
      await rollouts.setFreeze({ by: caller.principal.tokenId, reason, atMs: now() });
      return freezeOf(rollouts);
    },
    'rollout.unfreeze': async () => {
      await rollouts.setFreeze(undefined);
      return freezeOf(rollouts);
    },
  };
}

async function events(
  rollouts: Rollouts,
  { rollout, since, limit, follow }: Params<'rollout.events'>,
  { signal, progress }: HubCall['context'],
): Promise<Result<'rollout.events'>> {
  if (!follow) {
    const found = await rollouts.events(rollout, since, limit);
    return { events: found, lastSeq: found.at(-1)?.seq ?? since };
  }
  let lastSeq = since;
  for await (const event of followRollout(rollouts, rollout, since, signal)) {
    progress(event);
    lastSeq = event.seq;
  }
  signal.throwIfAborted();
  return { events: [], lastSeq };
}

function listRow({
  id,
  spec,
  status,
  startedBy,
  startedAtMs,
  endedAtMs,
  hosts,
}: RolloutRecord): Result<'rollout.list'>['rollouts'][0] {
  return {
    rollout: id,
    name: spec.name,
    status,
    startedBy,
    startedAt: new Date(startedAtMs).toISOString(),
    ...(endedAtMs === undefined ? {} : { endedAt: new Date(endedAtMs).toISOString() }),
    hosts,
  };
}

function freezeOf({ freeze }: Rollouts): Result<'rollout.freeze'> {
  if (freeze === undefined) return {};
  const { by, reason, atMs } = freeze;
  return { frozen: { by, reason, at: new Date(atMs).toISOString() } };
}
