import type { HubConnection } from '../../cli/connection.ts';
import type { VmEvent, VmEventType } from '../../shared/protocol/vm-events.ts';

const READY_TIMEOUT_MS = 120_000;

/** Follows the VM's events from before it exists, so that none is missed, and hands out the next of a type. */
export class EventWaiter implements AsyncDisposable {
  readonly #seen: VmEvent[] = [];
  readonly #stop = new AbortController();
  readonly #following: Promise<void>;
  #end: { readonly reason: unknown } | undefined;
  #waiting: { type: VmEventType; resolve: () => void; reject: (error: unknown) => void } | undefined;

  constructor(hub: HubConnection, signal: AbortSignal) {
    const either = AbortSignal.any([signal, this.#stop.signal]);
    this.#following = hub.follow({ follow: true, since: 0 }, { signal: either, onEvent: (event) => this.#arrived(event) });
    void this.#following.then(
      () => this.#ended(new Error('events are followed no longer')),
      (error: unknown) => this.#ended(error),
    );
  }

  /**
   * Resolves with the next event of the type that nobody was given yet; rejects after two minutes without one, and at once when no more
   * can come, as after an interruption.
   */
  async next(type: VmEventType): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const timer = setTimeout(() => reject(new Error(`no ${type} came within ${READY_TIMEOUT_MS / 1000} s`)), READY_TIMEOUT_MS);
    this.#waiting = { type, resolve, reject };
    this.#match();
    if (this.#end !== undefined) reject(this.#end.reason);
    try {
      await promise;
    } finally {
      clearTimeout(timer);
      this.#waiting = undefined;
    }
  }

  #ended(reason: unknown): void {
    this.#end = { reason };
    this.#waiting?.reject(reason);
  }

  #arrived(event: VmEvent): void {
    this.#seen.push(event);
    this.#match();
  }

  #match(): void {
    const index = this.#seen.findIndex((event) => event.type === this.#waiting?.type);
    if (index === -1) return;
    this.#seen.splice(0, index + 1);
    this.#waiting?.resolve();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#following;
  }
}
