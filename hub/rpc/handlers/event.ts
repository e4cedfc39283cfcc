/** Methods that tell what happened in the fleet, and who called for what. */
import type { EVENT_METHODS } from '../../../shared/protocol/methods-event.ts';
import type { HubState } from '../../state.ts';
import type { HubHandlersOf } from './types.ts';

export type EventServices = Pick<HubState, 'events' | 'eventEpoch' | 'auditBook'>;

export function eventHandlers({ events, eventEpoch, auditBook }: EventServices): HubHandlersOf<typeof EVENT_METHODS> {
  return {
    /** With `follow` the call lasts until its caller cancels it. */
    'event.list': async ({ since, epoch, limit, follow, ...filter }, { context }) => {
      const from = epoch !== undefined && epoch !== eventEpoch ? 0 : since;
      if (!follow) {
        const page = await events.query({ ...filter, since: from, limit });
        return { epoch: eventEpoch, ...page, events: [...page.events] };
      }
      const { signal } = context;
      for await (const event of events.follow(from ?? events.lastSeq, filter, signal)) context.progress(event);
      signal.throwIfAborted();
      return { epoch: eventEpoch, events: [], missed: 0, lastSeq: events.lastSeq };
    },
    'audit.list': (query) => auditBook.list(query),
  };
}
