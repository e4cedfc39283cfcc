/**
 * Streams from operators into guests: who may, where to, and then the two ends are joined (shared/mux/relay.ts). The hub holds no byte of
 * a stream that its ends could not send again, and gives no credit of its own. Ends whose line broke come back by `resume`.
 *
 * OPEN's meta is `{method, params}`; the host gets the same without `host`.
 */
import * as v from 'valibot';
import type { Clock } from '../../shared/clock.ts';
import { FairleadError, type JsonObject, toFairleadError } from '../../shared/errors.ts';
import type { PeerHello } from '../../shared/mux/hello.ts';
import type { Relay } from '../../shared/mux/relay.ts';
import { RESET_CODES } from '../../shared/mux/reset-codes.ts';
import type { ResumeEntry } from '../../shared/mux/resume-entry.ts';
import type { MuxSession } from '../../shared/mux/session.ts';
import type { RawStream } from '../../shared/mux/stream-handler.ts';
import { methodContract } from '../../shared/protocol/methods.ts';
import { parseWith } from '../../shared/protocol/parse-with.ts';
import { requireRole } from '../auth/principal.ts';
import type { HubMetrics } from '../http/metrics.ts';
import type { ImageStreams } from '../images/image-streams.ts';
import type { Audit } from '../rpc/audit.ts';
import type { Caller } from '../rpc/caller.ts';
import type { CheckedCall, Dispatcher, HostSession } from '../rpc/dispatcher.ts';
import type { AwayHost, Fleet } from '../sessions/fleet.ts';
import { hostOwner, type LegOwner, operatorOwner, RelayBook } from './relay-book.ts';

const Opening = v.strictObject({ method: v.pipe(v.string(), v.maxLength(128)), params: v.record(v.string(), v.unknown()) });

export interface StreamRelayOptions {
  readonly dispatcher: Dispatcher;
  readonly fleet: Fleet<HostSession>;
  readonly metrics: HubMetrics;
  readonly audit: Audit;
  /** Streams that end here. */
  readonly images: ImageStreams;
  readonly maxStreamsPerHost: number;
  readonly clock: Clock;
  /** Unix milliseconds. */
  readonly now: () => number;
  /** How long the streams of a broken line wait, in milliseconds; 60 s. */
  readonly graceMs?: number;
}

interface Asked {
  readonly method: string;
  readonly caller: Caller;
  readonly params: JsonObject;
  readonly host: string | undefined;
}

/** What an operator may open: the same is asked of whoever comes back for a stream. */
const STREAM_OPEN = 'stream.open';

export class StreamRelay implements Disposable {
  readonly #options: StreamRelayOptions;
  readonly #book: RelayBook;
  #openCount = 0;

  constructor(options: StreamRelayOptions) {
    this.#options = options;
    this.#book = new RelayBook(options);
  }

  /** Streams that are open or being opened. */
  get openCount(): number {
    return this.#openCount;
  }

  /** Bottom half: takes the offered stream or refuses it, and never throws. */
  open(from: RawStream, meta: JsonObject, caller: Caller, session: MuxSession): void {
    const { method } = meta;
    let asked: Asked = { method: typeof method === 'string' ? method.slice(0, 128) : '', caller, params: meta, host: undefined };
    try {
      const call = this.#check(meta, caller);
      if (call.contract.target === 'hub') return this.#end(from, call, { ...asked, params: call.params, session });
      const target = this.#options.dispatcher.locate(call);
      asked = { method: call.method, caller, params: call.params, host: 'away' in target ? target.away : target.host };
      if ('away' in target) void this.#refuseAway(from, target, asked);
      else this.#join(from, target, call, { ...asked, session });
    } catch (thrown) {
      this.#refuse(from, toFairleadError(thrown), asked);
    }
  }

  #check(meta: JsonObject, caller: Caller): CheckedCall {
    const { method, params } = parseWith(Opening, meta, 'meta');
    // SAFETY: meta came out of JSON.parse, so its values are JSON.
    const call = this.#options.dispatcher.check(method, params as JsonObject, caller);
    if (call.contract.kind !== 'stream')
      throw new FairleadError('INVALID_REQUEST', `${method} is called, not opened as a stream`);
    return call;
  }

  #join(from: RawStream, target: HostSession, call: CheckedCall, asked: Asked & { readonly session: MuxSession }): void {
    const { maxStreamsPerHost } = this.#options;
    if (target.mux.streamCount >= maxStreamsPerHost) {
      throw new FairleadError('LIMIT_EXCEEDED', `${maxStreamsPerHost} streams to host ${target.host} are open; close some`);
    }
    const { session, caller } = asked;
    const owners = [operatorOwner(caller.principal.tokenId, session.peerHello), hostOwner(target.host, target.mux.peerHello)];
    const relay = this.#book.make(from.key, owners, {
      onOpened: () => this.#told('OK', asked),
      onEnd: (outcome, ended) => {
        if (outcome.refused !== undefined) this.#told(outcome.refused.code, asked);
        this.#ended(ended);
      },
    });
    this.#openCount += 1;
    relay.open(from, session.pool, target.mux, { method: call.method, params: call.params });
  }

  /** Bottom half: a host opens a stream to its hub. Never throws. */
  openFromHost(from: RawStream, meta: JsonObject, host: string, session: MuxSession): void {
    this.#options.images.fromHost(from, meta, session, host);
  }

  /** The one kind of stream that an operator opens to the hub itself: `image.push`. */
  #end(from: RawStream, { params }: CheckedCall, asked: Asked & { readonly session: MuxSession }): void {
    const by = asked.caller.principal.tokenId;
    this.#options.images.push(from, params, asked.session, by, (code) => this.#told(code, asked));
  }

  /** Bottom half: a host holds a stream of an earlier line, or of another hub. Never throws. */
  resumeHost(stream: RawStream, said: ResumeEntry, of: { host: string; epoch: number }, session: MuxSession): void {
    const newest = this.#options.fleet.get(of.host)?.epoch ?? 0;
    if (newest > of.epoch) return stream.reset(RESET_CODES.SESSION_LOST, `superseded by session ${newest} of this host`);
    this.#resume(stream, said, hostOwner(of.host, session.peerHello), session);
  }

  /** Bottom half: an operator does. Never throws. */
  resumeOperator(stream: RawStream, said: ResumeEntry, { principal }: Caller, session: MuxSession): void {
    const owner = operatorOwner(principal.tokenId, session.peerHello);
    if (this.#options.images.isOurs(stream.key))
      return stream.reset(RESET_CODES.SESSION_LOST, 'open it again: it goes on where it was');
    try {
      requireRole(principal, methodContract(STREAM_OPEN).role, STREAM_OPEN, this.#options.now());
      this.#resume(stream, said, owner, session);
    } catch (thrown) {
      stream.reset(RESET_CODES.REFUSED, toFairleadError(thrown).message);
    }
  }

  /** A session has said all that it holds; what else waits for its streams waits for nothing. */
  released(of: { readonly host: string } | Caller, hello: PeerHello): void {
    this.#book.released('host' in of ? hostOwner(of.host, hello) : operatorOwner(of.principal.tokenId, hello));
  }

  [Symbol.dispose](): void {
    this.#book[Symbol.dispose]();
  }

  #resume(stream: RawStream, said: ResumeEntry, owner: LegOwner, { pool }: MuxSession): void {
    const onNew = (): void => {
      this.#openCount += 1;
    };
    this.#book.take({ stream, said, owner, pool, onNew, hooks: { onEnd: (_outcome, relay) => this.#ended(relay) } });
  }

  #ended(relay: Relay): void {
    this.#openCount -= 1;
    this.#options.metrics.streamEnded({
      toGuestBytes: relay.receivedBytes('near'),
      toOperatorBytes: relay.receivedBytes('far'),
    });
  }

  /** Why a host is away has to be looked up; until then the stream needs somebody who hears of its end. */
  async #refuseAway(from: RawStream, target: AwayHost, asked: Asked): Promise<void> {
    let isOver = false;
    from.attach({
      onData: () => {},
      onFin: () => {},
      onReset: () => {
        isOver = true;
      },
    });
    const error = await this.#options.fleet.unreachable(target).catch(toFairleadError);
    if (!isOver) this.#refuse(from, error, asked);
  }

  #refuse(from: RawStream, error: FairleadError, asked: Asked): void {
    this.#told(error.code, asked);
    from.refuse(error);
  }

  #told(code: string, { method, caller, params, host }: Asked): void {
    this.#options.metrics.streamAsked(code === 'OK' ? 'opened' : 'refused');
    void this.#options.audit.changed(caller, { method, params, host, code, durationMs: 0 });
  }
}
