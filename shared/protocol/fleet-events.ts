/**
 * What happens in the fleet, as the hub keeps it: one sequence over all hosts, from which any watcher goes on where it was, also after the
 * hub was restarted. An event of a VM is the host's own (vm-events.ts) with the place that it has here.
 *
 * A host's events reach the hub once each: what happened while the line was down is asked for when it is back.
 */
import * as v from 'valibot';
import { Count, Name, Timestamp } from './common.ts';

const HOST_EVENT_TYPES = [
  'host.enrolled',
  'host.connected',
  'host.disconnected',
  'host.removed',
  'host.labelled',
  'host.cordoned',
  'host.uncordoned',
  /** So many events of the host were forgotten before the hub could ask for them. */
  'host.events-missed',
] as const;
export type HostEventType = (typeof HOST_EVENT_TYPES)[number];

export const FleetEvent = v.strictObject({
  /** Rises by one with each event of the fleet, for as long as `epoch` of the answer stays the same. */
  seq: Count,
  /** When the hub learned of it. */
  at: Timestamp,
  /** One of the above, or that of a VM's event. */
  type: v.string(),
  host: Name,
  vm: v.optional(Name),
  /** Of the VM, after it. */
  state: v.optional(v.string()),
  data: v.record(v.string(), v.unknown()),
  /** Of a VM's event: where and when the host has it. */
  source: v.optional(v.strictObject({ epoch: v.string(), seq: Count, time: Timestamp })),
});
export type FleetEvent = v.InferOutput<typeof FleetEvent>;
