/** Methods about the agent itself. */
import { FairleadError } from '../../../shared/errors.ts';
import type { AGENT_METHODS } from '../../../shared/protocol/methods-agent.ts';
import { pullOptionsOf } from '../../images/on-demand.ts';
import type { Updates } from '../../update/updates.ts';
import type { HandlersOf } from './types.ts';

export function agentHandlers(updates: Updates): HandlersOf<typeof AGENT_METHODS> {
  return {
    'agent.release': () => updates.release(),
    'agent.update': (params, context) => {
      const { commandId, signal } = context;
      if (commandId === undefined) throw new FairleadError('INTERNAL', 'agent.update is not journalled, and nobody could end it');
      return updates.update(params, { commandId, signal, pull: pullOptionsOf(context) });
    },
  };
}
