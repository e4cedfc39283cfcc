/**
 * What became of `agent.update`, which the agent that was given it never ends itself:
 *
 *     done        the launcher has kept the release
 *     failed      it has not, for the reason that it tells; the release of before runs
 *     not done    the launcher was never asked: the agent died before
 */
import { FairleadError } from '../../shared/errors.ts';
import type { Updates } from '../update/updates.ts';
import type { Reconcilers } from './reconcile.ts';

export function updateReconcilers(updates: Updates): Reconcilers {
  return {
    'agent.update': async ({ id }) => {
      const outcome = await updates.outcomeOf(id);
      if (outcome === undefined)
        return { outcome: 'not-done', reason: 'the agent ended before it had left for the other release' };
      const { release, failure, runs } = outcome;
      if (failure === undefined) return { outcome: 'done', reason: 'the release has proved itself', result: runs };
      const message = `release ${release} was tried and left: ${failure}; ${runs.release} (${runs.version}) runs`;
      return {
        outcome: 'done',
        reason: failure,
        error: new FairleadError('UPDATE_FAILED', message, { details: { release, runs } }),
      };
    },
  };
}
