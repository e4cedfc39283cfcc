/** Events of the journal as watchers are told them. */
import type { RolloutEntry, RolloutEvent, RolloutFact, ToldFact } from '../../shared/protocol/rollout-events.ts';
import type { LogEntry } from '../store/store.ts';

/** Room for events in an answer, which fits a message of 256 KiB. */
const MAX_BYTES = 192 * 1024;

/** As many of them, from the first on, as fit one message. */
export function toldEvents(entries: ReadonlyArray<LogEntry<RolloutEntry>>): RolloutEvent[] {
  const events: RolloutEvent[] = [];
  let bytes = 0;
  for (const { seq, value } of entries) {
    const event = { seq, at: new Date(value.atMs).toISOString(), fact: told(value.fact) };
    bytes += Buffer.byteLength(JSON.stringify(event)) + 1;
    if (bytes > MAX_BYTES && events.length > 0) break;
    events.push(event);
  }
  return events;
}

function told(fact: RolloutFact): ToldFact {
  switch (fact.type) {
    case 'planned': {
      const { revision, hostsDigest, hosts } = fact.plan;
      return { type: 'planned', revision, hostsDigest, hosts: hosts.length, by: fact.by };
    }
    case 'rollback-begun': {
      const { type, scope, except, by, reason } = fact;
      return { type, scope, spared: except.length, by, reason };
    }
    case 'retried':
      return { ...fact, hosts: fact.hosts.length };
    case 'joined':
      return { ...fact, hosts: fact.hosts.length };
    case 'host-recorded':
      return { type: 'host-recorded', host: fact.host };
    default:
      return fact;
  }
}
