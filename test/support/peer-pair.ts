/** Two JSON-RPC peers head to head in memory, on virtual time. Messages lie in a queue per direction until they are delivered. */
import { FairleadError } from '../../shared/errors.ts';
import { MAX_TIMEOUT_MS } from '../../shared/jsonrpc/meta.ts';
import { JsonRpcPeer } from '../../shared/jsonrpc/peer.ts';
import type { PeerLimits, PeerOptions } from '../../shared/jsonrpc/types.ts';
import { FakeClock } from './fake-clock.ts';

export type Handlers = Pick<PeerOptions, 'onRequest'> & Partial<Pick<PeerOptions, 'onNotification'>>;

export interface PairOptions {
  /** What the callee does; without it every request is answered with null. */
  readonly callee?: Partial<Handlers>;
  readonly caller?: Partial<Handlers>;
  readonly limits?: Partial<PeerLimits>;
}

export class PeerPair {
  readonly clock = new FakeClock();
  /** Messages sent and not delivered yet, oldest first. */
  readonly toCallee: string[] = [];
  readonly toCaller: string[] = [];
  /** Everything that was ever sent, for assertions on the wire. */
  readonly sent: { readonly by: 'caller' | 'callee'; readonly message: Readonly<Record<string, unknown>> }[] = [];
  readonly protocolErrors: FairleadError[] = [];
  readonly faults: { readonly error: FairleadError; readonly method: string }[] = [];
  readonly caller: JsonRpcPeer;
  readonly callee: JsonRpcPeer;

  constructor({ caller = {}, callee = {}, limits }: PairOptions = {}) {
    this.caller = new JsonRpcPeer({ ...this.#common('caller', this.toCallee, limits), ...caller });
    this.callee = new JsonRpcPeer({ ...this.#common('callee', this.toCaller, limits), ...callee });
  }

  /** Delivers everything, answers to it included, until both directions are empty and no handler has anything more to say. */
  async settle(): Promise<void> {
    do {
      this.deliverToCallee();
      await turn();
      this.deliverToCaller();
      await turn();
    } while (this.toCallee.length + this.toCaller.length > 0);
  }

  deliverToCallee(count = this.toCallee.length): void {
    for (const text of this.toCallee.splice(0, count)) this.callee.receive(text);
  }

  deliverToCaller(count = this.toCaller.length): void {
    for (const text of this.toCaller.splice(0, count)) this.caller.receive(text);
  }

  /**
   * Timers of both sides, before and after all that can be due was due, and what was sent meanwhile. One timer of each side may be left of
   * calls that have ended: when it is due, it finds nothing, and is not set again.
   */
  whatIsDue(): { readonly timers: number; readonly left: number; readonly sent: number } {
    const timers = this.clock.pendingTimers;
    const sent = this.sent.length;
    this.clock.advance(MAX_TIMEOUT_MS);
    return { timers, left: this.clock.pendingTimers, sent: this.sent.length - sent };
  }

  /** The line drops: what is on its way is lost. */
  drop(): void {
    this.toCallee.length = 0;
    this.toCaller.length = 0;
    const error = new FairleadError('INTERRUPTED', 'the line dropped');
    this.caller.close(error);
    this.callee.close(error);
  }

  #common(by: 'caller' | 'callee', queue: string[], limits: Partial<PeerLimits> | undefined): PeerOptions {
    return {
      send: (text) => {
        this.sent.push({ by, message: JSON.parse(text) });
        queue.push(text);
      },
      onRequest: async () => null,
      onProtocolError: (error) => this.protocolErrors.push(error),
      onHandlerFault: (error, method) => this.faults.push({ error, method }),
      clock: this.clock,
      limits,
    };
  }
}

/** Lets every promise that can settle by itself do so. */
export async function turn(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}

/** The error that a call rejects with; fails the test when it resolves. */
export async function rejection(call: Promise<unknown>): Promise<FairleadError> {
  const outcome = await call.then(
    (value) => new Error(`resolved with ${JSON.stringify(value)}`),
    (error: unknown) => error,
  );
  if (outcome instanceof FairleadError) return outcome;
  throw outcome;
}
