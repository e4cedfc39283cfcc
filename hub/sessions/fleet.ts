/**
 * The hosts that have a line to this hub, and how a call finds the one it is meant for.
 *
 * A host has one session at most: of two, the one with the higher epoch, which was accepted later. The older is fenced: it is closed and
 * no call reaches it from the moment the newer one is here.
 */
import { FairleadError, type JsonObject } from '../../shared/errors.ts';
import { HOSTS } from '../store/records.ts';
import type { Store } from '../store/store.ts';
import type { Inventory } from './inventory.ts';

/** Hosts that an error names. */
const MAX_NAMED = 10;

export interface FleetSession {
  readonly host: string;
  readonly epoch: number;
  /** Closes the line; the host's newer session is here. */
  supersede(byEpoch: number): void;
}

/** A host that a call is for and that has no session. */
export interface AwayHost {
  readonly away: string;
  /** The VM by whose name it was found. */
  readonly vm: string | undefined;
}

export class Fleet<S extends FleetSession> {
  readonly inventory: Inventory;
  readonly #store: Store;
  readonly #sessions = new Map<string, S>();

  constructor(options: { readonly store: Store; readonly inventory: Inventory }) {
    this.#store = options.store;
    this.inventory = options.inventory;
  }

  get size(): number {
    return this.#sessions.size;
  }

  get(host: string): S | undefined {
    return this.#sessions.get(host);
  }

  all(): S[] {
    return [...this.#sessions.values()];
  }

  /** False when a newer session of the host is here already; the given one was superseded then. */
  add(session: S): boolean {
    const current = this.#sessions.get(session.host);
    if (current !== undefined && current.epoch > session.epoch) {
      session.supersede(current.epoch);
      return false;
    }
    this.#sessions.set(session.host, session);
    current?.supersede(session.epoch);
    return true;
  }

  /** Does nothing when the host has another session by now. */
  remove(session: S): void {
    if (this.#sessions.get(session.host) === session) this.#sessions.delete(session.host);
  }

  /**
   * The session that a call goes to: the host it names, else the one that has the VM it names, else the only one there is. Of a host
   * that has none, `unreachable` says why.
   *
   * @throws FairleadError HOST_UNREACHABLE, NOT_FOUND, CONFLICT (several hosts have such a VM), INVALID_PARAMS (the host must be named)
   */
  locate(host: string | undefined, params: JsonObject): S | AwayHost {
    if (host !== undefined) return this.#sessions.get(host) ?? { away: host, vm: undefined };
    const { vm } = params;
    if (typeof vm !== 'string') return this.#onlyOne();
    const hosts = this.inventory.hostsOf(vm);
    const [found, another] = hosts;
    if (found === undefined) return this.#onlyOneForVm(vm);
    if (another === undefined) return this.#sessions.get(found) ?? { away: found, vm };
    const message = `several hosts have a VM ${vm}: ${named(hosts)}; say which with host`;
    throw new FairleadError('CONFLICT', message, { details: { hosts: hosts.slice(0, MAX_NAMED) } });
  }

  /** Why a host cannot be reached: HOST_UNREACHABLE, or NOT_FOUND when it is not enrolled at all. */
  async unreachable({ away, vm }: AwayHost): Promise<FairleadError> {
    const stored = await this.#store.collection(HOSTS).get(away);
    if (stored === undefined) return new FairleadError('NOT_FOUND', `no host ${away} is enrolled`);
    const seenAtMs = stored.value.lastSeenAtMs;
    const since = seenAtMs === undefined ? 'has never connected' : `was last seen at ${new Date(seenAtMs).toISOString()}`;
    const aside = vm === undefined ? '' : `, which had VM ${vm},`;
    return new FairleadError('HOST_UNREACHABLE', `host ${away}${aside} has no line to the hub; it ${since}`, {
      details: { host: away },
    });
  }

  #onlyOne(): S {
    const [only, another] = this.#sessions.values();
    if (only === undefined) throw new FairleadError('HOST_UNREACHABLE', 'no host is connected to the hub');
    if (another === undefined) return only;
    const hosts = [...this.#sessions.keys()].sort();
    const message = `params.host: is required, for ${hosts.length} hosts are connected: ${named(hosts)}`;
    throw new FairleadError('INVALID_PARAMS', message, { details: { hosts: hosts.slice(0, MAX_NAMED) } });
  }

  #onlyOneForVm(vm: string): S {
    if (this.#sessions.size <= 1) return this.#onlyOne();
    throw new FairleadError('NOT_FOUND', `none of the ${this.#sessions.size} connected hosts has a VM ${vm}`);
  }
}

function named(hosts: readonly string[]): string {
  const more = hosts.length - MAX_NAMED;
  return hosts.slice(0, MAX_NAMED).join(', ') + (more > 0 ? ` and ${more} more` : '');
}
