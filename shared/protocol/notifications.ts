/** What one side tells the other without being asked, over the line. `since` as in the method table; hubs are upgraded first. */
import type * as v from 'valibot';
import { VmEvent } from './vm-events.ts';

export interface NotificationContract {
  readonly from: 'agent' | 'hub';
  readonly since: number;
  readonly summary: string;
  readonly params: v.GenericSchema;
}

export const NOTIFICATIONS = {
  'vm.event': { from: 'agent', since: 1, summary: 'Something happened to a VM of this host', params: VmEvent },
} as const satisfies Record<string, NotificationContract>;

export type NotificationName = keyof typeof NOTIFICATIONS;
export type NotificationParams<N extends NotificationName> = v.InferOutput<(typeof NOTIFICATIONS)[N]['params']>;
