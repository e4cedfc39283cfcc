/** What the hub knows of the hosts of a rollout besides its journal: which of them can be compared with which (core/control-group.ts). */
import type { CommandBook } from '../commands/command-book.ts';
import { HOSTS } from '../store/records.ts';
import type { Store } from '../store/store.ts';
import type { Actuator } from './actuator.ts';
import type { Claims } from './claims.ts';
import type { Standing } from './core/control-group.ts';
import { candidateOf } from './selection.ts';

export interface BystandersOptions {
  readonly rollout: string;
  /** When the rollout began, in Unix milliseconds. */
  readonly sinceMs: number;
  readonly store: Store;
  readonly claims: Claims;
  /** Of people and programs, as long as they are kept (a day); those of rollouts are not among them. */
  readonly commands: Pick<CommandBook, 'all'>;
  readonly actuator: Pick<Actuator, 'isUp'>;
  /** Hosts are coming back after a start of the hub: those that are away need not be. */
  readonly isSettling: () => boolean;
}

export const COMING_BACK = 'hosts are coming back after a start of the hub';

/**
 * Commands after which a host is as comparable as before: of other VMs, or of what is in a guest. A VM that was deleted is not asked about.
 * Of any other method, also one that comes later, it is not.
 */
const LEAVE_COMPARABLE: ReadonlySet<string> = new Set([
  'vm.create',
  'vm.run',
  'vm.clone',
  'vm.delete',
  'vm.hold',
  'vm.migrateCancel',
  'snapshot.create',
  'snapshot.remove',
  'snapshot.prune',
  'guest.exec',
  'guest.fsfreeze',
  'guest.setTime',
  'blob.pull',
  'blob.collect',
]);

export class Bystanders {
  readonly #options: BystandersOptions;

  constructor(options: BystandersOptions) {
    this.#options = options;
  }

  get sinceMs(): number {
    return this.#options.sinceMs;
  }

  get isSettling(): boolean {
    return this.#options.isSettling();
  }

  /** As it is now. */
  async look(): Promise<(host: string) => Standing | undefined> {
    const { rollout, sinceMs, store, claims, actuator } = this.#options;
    const records = await store.collection(HOSTS).list();
    const enrolled = new Map(records.map(({ value }) => [value.host, value]));
    const changed = this.#changedByOthers();
    return (host) => {
      const record = enrolled.get(host);
      if (record === undefined) return undefined;
      const { agentVersion, hardware } = candidateOf(record);
      return {
        agentVersion,
        hardware,
        isInOtherHands: claims.isInOtherHands(host, rollout),
        isChangedByOthers: changed.has(host),
        hasComeBack: actuator.isUp(host) || (record.lastSeenAtMs ?? 0) >= sinceMs,
      };
    };
  }

  #changedByOthers(): ReadonlySet<string> {
    const { sinceMs, commands } = this.#options;
    const changing = commands.all().filter(({ endedAtMs, method, state }) => {
      // One that waits for its host has changed nothing yet.
      if (LEAVE_COMPARABLE.has(method) || state === 'queued') return false;
      return endedAtMs === undefined || endedAtMs >= sinceMs;
    });
    return new Set(changing.map(({ host }) => host));
  }
}
