/**
 * Streams from operators into guests: who may, where to, and then the two ends are joined (shared/mux/relay.ts). The hub holds no byte of
 * a stream that its ends could not send again, and gives no credit of its own.
 *
 * OPEN's meta is `{method, params}`; the host gets the same without `host`.
 */
import * as v from 'valibot';
import { FairleadError, type JsonObject, toFairleadError } from '../../shared/errors.ts';
import type { MemoryPool } from '../../shared/mux/pool.ts';
import { relayStream } from '../../shared/mux/relay.ts';
import type { RawStream } from '../../shared/mux/stream-handler.ts';
import { parseWith } from '../../shared/protocol/parse-with.ts';
import type { HubMetrics } from '../http/metrics.ts';
import type { Audit } from '../rpc/audit.ts';
import type { Caller } from '../rpc/caller.ts';
import type { CheckedCall, Dispatcher, HostSession } from '../rpc/dispatcher.ts';
import type { AwayHost, Fleet } from '../sessions/fleet.ts';
import { CountedStream } from './counted-stream.ts';

const Opening = v.strictObject({ method: v.pipe(v.string(), v.maxLength(128)), params: v.record(v.string(), v.unknown()) });

export interface StreamRelayOptions {
  readonly dispatcher: Dispatcher;
  readonly fleet: Fleet<HostSession>;
  readonly metrics: HubMetrics;
  readonly audit: Audit;
  readonly maxStreamsPerHost: number;
}

interface Asked {
  readonly caller: Caller;
  readonly params: JsonObject;
  readonly host: string | undefined;
}

export class StreamRelay {
  readonly #options: StreamRelayOptions;
  #openCount = 0;

  constructor(options: StreamRelayOptions) {
    this.#options = options;
  }

  /** Streams that are open or being opened. */
  get openCount(): number {
    return this.#openCount;
  }

  /** Bottom half: takes the offered stream or refuses it, and never throws. */
  open(from: RawStream, meta: JsonObject, caller: Caller, fromPool: MemoryPool): void {
    let asked: Asked = { caller, params: meta, host: undefined };
    try {
      const call = this.#check(meta, caller);
      const target = this.#options.dispatcher.locate(call);
      asked = { caller, params: call.params, host: 'away' in target ? target.away : target.host };
      if ('away' in target) void this.#refuseAway(from, target, asked);
      else this.#join(from, target, call, { ...asked, fromPool });
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

  #join(from: RawStream, target: HostSession, call: CheckedCall, asked: Asked & { readonly fromPool: MemoryPool }): void {
    const { metrics, maxStreamsPerHost } = this.#options;
    if (target.mux.streamCount >= maxStreamsPerHost) {
      throw new FairleadError('LIMIT_EXCEEDED', `${maxStreamsPerHost} streams to host ${target.host} are open; close some`);
    }
    const counted = new CountedStream(from);
    this.#openCount += 1;
    relayStream({
      from: counted,
      to: target.mux,
      fromPool: asked.fromPool,
      meta: { method: call.method, params: call.params },
      onOpened: () => this.#told('OK', asked),
      onEnd: ({ refused }) => {
        this.#openCount -= 1;
        if (refused !== undefined) this.#told(refused.code, asked);
        metrics.streamEnded({ toGuestBytes: counted.receivedBytes, toOperatorBytes: counted.givenBytes });
      },
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

  #told(code: string, { caller, params, host }: Asked): void {
    this.#options.metrics.streamAsked(code === 'OK' ? 'opened' : 'refused');
    this.#options.audit.call(caller, { method: 'stream.open', params, host, code, durationMs: 0 });
  }
}
