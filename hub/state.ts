/** What the hub knows of its fleet, opened from the store: read once at the start, and kept as it changes. */
import { randomBytes } from 'node:crypto';
import type { Clock } from '../shared/clock.ts';
import { type Bus, createLocalBus } from './bus.ts';
import { CommandBook } from './commands/command-book.ts';
import type { HubConfig } from './config.ts';
import { AuditBook } from './events/audit-book.ts';
import { EventIntake } from './events/event-intake.ts';
import { FleetEvents } from './events/fleet-events.ts';
import type { HubLogger } from './logger.ts';
import type { Inventory } from './sessions/inventory.ts';
import { openInventory } from './sessions/vm-records.ts';
import { META } from './store/records.ts';
import { getOrCreate, type Store } from './store/store.ts';

export interface HubState {
  readonly store: Store;
  readonly bus: Bus;
  readonly inventory: Inventory;
  readonly events: FleetEvents;
  /** Another after the store was restored from a backup: numbers given out since then are another's. */
  readonly eventEpoch: string;
  readonly intake: EventIntake;
  readonly auditBook: AuditBook;
  readonly commandBook: CommandBook;
}

export interface OpenStateOptions {
  readonly store: Store;
  readonly config: Pick<HubConfig, 'maxVmsPerHost' | 'maxEvents' | 'maxAuditEntries' | 'maxEndedCommands'>;
  readonly logger: HubLogger;
  readonly clock: Clock;
  /** Unix milliseconds. */
  readonly now: () => number;
}

/** Fact in META; a restore removes it. */
export const EVENT_EPOCH = 'eventEpoch';

export async function openState({ store, config, logger, clock, now }: OpenStateOptions): Promise<HubState> {
  const { maxVmsPerHost, maxEvents, maxAuditEntries, maxEndedCommands } = config;
  const faults = (what: string) => (err: unknown) => logger.error({ err }, `could not write ${what} to the store`);
  const events = await FleetEvents.open({ store, maxEvents });
  return {
    store,
    bus: createLocalBus(logger),
    inventory: await openInventory({ store, maxVmsPerHost, onFault: faults('what a host has') }),
    events,
    eventEpoch: await getOrCreate(store.collection(META), EVENT_EPOCH, () => randomBytes(12).toString('base64url')),
    intake: await EventIntake.open(store, events),
    commandBook: await CommandBook.open({ store, maxEnded: maxEndedCommands, now, onFault: faults('what became of a command') }),
    auditBook: new AuditBook({ store, clock, maxEntries: maxAuditEntries, onFault: faults('the audit') }),
  };
}
