/**
 * Ports of this host (CID 2) that its guests dial: what listens on which, for which VM. A service of the host's policy takes the connections
 * of all guests on its port; a subscription takes those of one VM, for somebody at the hub.
 *
 *     the guest dials ── a service ──▶ joined to the service's address
 *                     ── a subscription ──▶ pending: its subscriber is told ── take() ──▶ theirs
 *                     │                        └── 10 s, a reset of the guest, the subscription's end ──▶ reset
 *                     └── neither ──▶ reset (nothing listens, or the connection is closed at once)
 *
 * Subscriptions belong to a VM's name and outlive its processes: each life of a VM that has a vsock `attach`es to what is wanted of it.
 * Every connection stands in the registry of that life, and ends with it.
 */
import type { Duplex } from 'node:stream';
import { FairleadError, toFairleadError } from '../../../shared/errors.ts';
import { randomId128 } from '../../../shared/line/random-id.ts';
import type { GuestDialled } from '../../../shared/protocol/methods-streams.ts';
import type { VsockDevice } from '../../streams/transport.ts';
import type { Logger } from '../common.ts';
import type { StreamRegistry } from '../stream-registry.ts';
import { type GuestService, serveGuest } from './guest-service.ts';

export interface GuestPortsOptions {
  readonly services: readonly GuestService[];
  /** Streams into and from one guest at once. */
  readonly maxStreamsPerVm: number;
  readonly logger: Logger;
  /** Time for a subscriber to take a connection, in milliseconds. */
  readonly acceptTimeoutMs?: number | undefined;
}

/** One life of a VM with a vsock device. */
export interface DiallingGuest {
  readonly vm: string;
  readonly generation: number;
  readonly device: VsockDevice;
  readonly streams: StreamRegistry;
  /** Where the guest says that it is ready: nobody else's. */
  readonly readyPort: number | undefined;
  readonly signal: AbortSignal;
  /** Told of each connection that is not reset at once. */
  readonly onDialled?: ((stream: Duplex) => void) | undefined;
}

export interface Subscriber {
  onDialled(dialled: GuestDialled): void;
  /** The subscription is over, and not by its own doing. Called once at most. */
  onEnd(error: FairleadError): void;
}

export interface TakenConnection {
  readonly stream: Duplex;
  readonly transport: VsockDevice['state']['kind'];
  readonly halfClose: boolean;
  readonly generation: number;
}

interface Pending extends TakenConnection {
  readonly timer: NodeJS.Timeout;
}

interface Subscription {
  readonly vm: string;
  readonly port: number;
  readonly subscriber: Subscriber;
  readonly pending: Map<string, Pending>;
}

/** Where a life of a VM listens, by port. */
interface Attachment {
  readonly guest: DiallingGuest;
  readonly listening: Map<number, Promise<AsyncDisposable>>;
}

const ACCEPT_TIMEOUT_MS = 10_000;
/** Connections of one subscription that nobody has taken yet. */
const MAX_PENDING = 128;
const MAX_SUBSCRIPTIONS_PER_VM = 64;

export class GuestPorts implements Disposable {
  readonly #options: GuestPortsOptions;
  readonly #subscriptions = new Map<string, Map<number, Subscription>>();
  readonly #attached = new Map<string, Attachment>();

  constructor(options: GuestPortsOptions) {
    this.#options = options;
  }

  /**
   * Listens for that guest, until disposed of. What cannot be listened on is logged, its subscriber told: a VM runs without it.
   */
  async attach(guest: DiallingGuest): Promise<AsyncDisposable> {
    const attachment: Attachment = { guest, listening: new Map() };
    this.#attached.set(guest.vm, attachment);
    const { services, logger } = this.#options;
    await Promise.all([
      ...services.map(async (service) => {
        try {
          await this.#listen(attachment, service.port, (stream) => this.#serve(guest, service, stream));
        } catch (error) {
          const fields = { vm: guest.vm, port: service.port, error: toFairleadError(error).message };
          logger.error(fields, 'a service for guests cannot be offered to a VM');
        }
      }),
      ...[...this.#of(guest.vm)].map(async (subscription) => {
        try {
          await this.#listenFor(attachment, subscription);
        } catch (error) {
          this.#end(subscription, toFairleadError(error));
        }
      }),
    ]);
    return { [Symbol.asyncDispose]: () => this.#detach(attachment) };
  }

  /**
   * Resolves once the guest is heard, or at once where it does not run. Disposing ends it, and resets what nobody has taken.
   *
   * @throws FairleadError CONFLICT when the port is taken, LIMIT_EXCEEDED, UNSUPPORTED when it cannot be listened on
   */
  async subscribe(
    { vm, port, replace }: { readonly vm: string; readonly port: number; readonly replace: boolean },
    subscriber: Subscriber,
  ): Promise<Disposable> {
    const others = this.#subscriptions.get(vm) ?? new Map<number, Subscription>();
    const attachment = this.#attached.get(vm);
    if (this.#options.services.some((service) => service.port === port)) {
      throw new FairleadError('CONFLICT', `port ${port} leads to a service of this host (vsockServices)`);
    }
    const before = others.get(port);
    if (before !== undefined && !replace) {
      const todo = 'end that one, or take its place with `replace`';
      throw new FairleadError('CONFLICT', `somebody hears VM ${vm} on port ${port} already: ${todo}`, { details: { vm, port } });
    }
    if (before === undefined && others.size >= MAX_SUBSCRIPTIONS_PER_VM) {
      throw new FairleadError('LIMIT_EXCEEDED', `VM ${vm} is heard on ${others.size} ports, the most that are allowed`);
    }
    const subscription: Subscription = { vm, port, subscriber, pending: new Map() };
    if (before !== undefined)
      this.#end(before, new FairleadError('CONFLICT', `somebody else hears VM ${vm} on port ${port} now`));
    this.#subscriptions.set(vm, others.set(port, subscription));
    try {
      if (attachment !== undefined) await this.#listenFor(attachment, subscription);
    } catch (error) {
      this.#remove(subscription);
      throw error;
    }
    return { [Symbol.dispose]: () => this.#remove(subscription) };
  }

  /** @throws FairleadError NOT_FOUND */
  take(vm: string, port: number, connection: string): TakenConnection {
    const subscription = this.#subscriptions.get(vm)?.get(port);
    const pending = subscription?.pending.get(connection);
    if (subscription === undefined || pending === undefined || pending.stream.destroyed) {
      const why = 'it was taken, or not taken in time, or the guest gave it up';
      throw new FairleadError('NOT_FOUND', `VM ${vm} has no such connection to port ${port} any more: ${why}`);
    }
    clearTimeout(pending.timer);
    subscription.pending.delete(connection);
    return pending;
  }

  /** The VM is no more. */
  forget(vm: string): void {
    for (const subscription of this.#of(vm)) this.#end(subscription, new FairleadError('NOT_FOUND', `VM ${vm} was deleted`));
  }

  /** The agent leaves. */
  [Symbol.dispose](): void {
    const leaving = new FairleadError('INTERRUPTED', 'the agent is shutting down');
    for (const vm of this.#subscriptions.keys()) for (const subscription of this.#of(vm)) this.#end(subscription, leaving);
  }

  #of(vm: string): readonly Subscription[] {
    return [...(this.#subscriptions.get(vm)?.values() ?? [])];
  }

  #listenFor(attachment: Attachment, subscription: Subscription): Promise<void> {
    const { guest } = attachment;
    return this.#listen(attachment, subscription.port, (stream) => this.#offer(guest, subscription.port, stream));
  }

  /** One listener a port and life; who gets the connection is decided when it comes. */
  async #listen({ guest, listening }: Attachment, port: number, onConnection: (stream: Duplex) => void): Promise<void> {
    if (port === guest.readyPort) {
      throw new FairleadError('CONFLICT', `VM ${guest.vm} says on port ${port} that it is ready (readyPort)`);
    }
    let listener = listening.get(port);
    if (listener === undefined) {
      listener = guest.device.listen(port, (stream) => {
        // Whoever gets it hears of its errors; until then nobody needs to.
        stream.on('error', () => {});
        onConnection(stream);
      });
      listening.set(port, listener);
      listener.catch(() => listening.delete(port));
    }
    await listener;
  }

  #serve(guest: DiallingGuest, service: GuestService, stream: Duplex): void {
    if (!this.#admit(guest, stream)) return;
    serveGuest(stream, service, guest.device.halfClose, guest.signal).catch((error: unknown) => {
      const fields = { vm: guest.vm, port: service.port, error: toFairleadError(error).message };
      this.#options.logger.debug(fields, 'a connection of a guest to a service ended with an error');
    });
  }

  #offer(guest: DiallingGuest, port: number, stream: Duplex): void {
    const subscription = this.#subscriptions.get(guest.vm)?.get(port);
    if (subscription === undefined || subscription.pending.size >= MAX_PENDING) return void stream.destroy();
    if (!this.#admit(guest, stream)) return;
    const { device, generation } = guest;
    const connection = randomId128();
    const giveUp = (): void => void stream.destroy();
    const timer = setTimeout(giveUp, this.#options.acceptTimeoutMs ?? ACCEPT_TIMEOUT_MS).unref();
    const pending: Pending = { stream, transport: device.state.kind, halfClose: device.halfClose, generation, timer };
    subscription.pending.set(connection, pending);
    stream.once('close', () => {
      clearTimeout(timer);
      subscription.pending.delete(connection);
    });
    subscription.subscriber.onDialled({ connection, generation, halfClose: device.halfClose });
  }

  /** False when the guest has as many streams as it may. */
  #admit({ streams, signal, onDialled }: DiallingGuest, stream: Duplex): boolean {
    using place = streams.reserve(this.#options.maxStreamsPerVm);
    if (place === undefined || signal.aborted) {
      stream.destroy();
      return false;
    }
    streams.add(stream);
    onDialled?.(stream);
    return true;
  }

  #end(subscription: Subscription, error: FairleadError): void {
    if (this.#remove(subscription)) subscription.subscriber.onEnd(error);
  }

  /** False when it was over already. */
  #remove(subscription: Subscription): boolean {
    const { vm, port, pending } = subscription;
    const ofVm = this.#subscriptions.get(vm);
    if (ofVm?.get(port) !== subscription) return false;
    ofVm.delete(port);
    if (ofVm.size === 0) this.#subscriptions.delete(vm);
    for (const { stream } of pending.values()) stream.destroy();
    void this.#fallSilent(vm, port);
    return true;
  }

  /** Nothing listens where nobody would take it, so that the guest is refused at once. */
  async #fallSilent(vm: string, port: number): Promise<void> {
    const listening = this.#attached.get(vm)?.listening;
    const listener = await listening?.get(port)?.catch(() => undefined);
    if (listener === undefined || this.#subscriptions.get(vm)?.has(port) === true) return;
    listening?.delete(port);
    await listener[Symbol.asyncDispose]();
  }

  async #detach(attachment: Attachment): Promise<void> {
    const { guest, listening } = attachment;
    if (this.#attached.get(guest.vm) === attachment) this.#attached.delete(guest.vm);
    const listeners = await Promise.allSettled(listening.values());
    listening.clear();
    const open = listeners.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
    await Promise.all(open.map((listener) => listener[Symbol.asyncDispose]()));
  }
}
