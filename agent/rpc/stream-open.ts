/**
 * Methods that are called by an OPEN frame: its meta is `{method, params}`, the meta of OPEN_OK is the result (stream-methods.ts).
 *
 * The stream is answered once its other end is there (with `stream.open`, when the guest has taken the connection), so that its opener
 * knows; until then it has no credit, and a reset of it gives up the attempt. From then on bytes flow until both ends have ended, one
 * resets, or the VM's generation is over.
 */
import type { Duplex } from 'node:stream';
import { FairleadError, type JsonObject, toFairleadError } from '../../shared/errors.ts';
import { MuxChannel } from '../../shared/mux/channel.ts';
import { GRACE_MS } from '../../shared/mux/limits.ts';
import { RESET_CODES, resetError } from '../../shared/mux/reset-codes.ts';
import type { MuxSession } from '../../shared/mux/session.ts';
import type { RawStream } from '../../shared/mux/stream-handler.ts';
import { channelDuplex, joinDuplex } from '../../shared/node/channel-duplex.ts';
import type { AgentStreamName } from '../../shared/protocol/methods.ts';
import { parseParams } from '../../shared/protocol/validate.ts';
import type { Logger, Vms } from '../vm/api.ts';
import { observed, type RpcObserver } from './dispatcher.ts';
import type { Policy } from './policy.ts';
import { isStreamMethod, type OpenedEnd, streamMethods } from './stream-methods.ts';

/** Told of each stream that was joined to a guest; for metrics. */
export interface StreamObserver {
  opened(guest: Duplex): void;
  closed(guest: Duplex): void;
}

export interface StreamOpenerOptions {
  /** Streams that come before the VMs are adopted wait for it. */
  readonly vms: Promise<Vms>;
  readonly policy: Policy;
  readonly observer: RpcObserver & StreamObserver;
  readonly logger: Logger;
}

export class StreamOpener {
  readonly #options: StreamOpenerOptions;

  constructor(options: StreamOpenerOptions) {
    this.#options = options;
  }

  /** Never throws: what goes wrong is the stream's answer. */
  open(stream: RawStream, meta: JsonObject, session: MuxSession): void {
    const given = new AbortController();
    stream.attach({
      onData() {},
      onFin() {},
      onReset: (code, reason) => given.abort(resetError(code, reason)),
    });
    void this.#serve(stream, meta, session, given.signal).catch((error: unknown) => {
      this.#options.logger.error({ ch: stream.id, err: String(error) }, 'stream ended by a fault');
      stream.reset(RESET_CODES.INTERNAL, 'fault in the agent');
    });
  }

  async #serve(stream: RawStream, meta: JsonObject, session: MuxSession, signal: AbortSignal): Promise<void> {
    const { observer, logger } = this.#options;
    let opened: OpenedEnd;
    try {
      const method = this.#methodOf(meta);
      opened = await observed(observer, method, () => this.#connect(method, meta['params'], signal));
    } catch (error) {
      if (!signal.aborted) stream.refuse(toFairleadError(error));
      return;
    }
    const { stream: guest, halfClose, result } = opened;
    // Until it is joined, an error of the guest's side must find a listener; the join sees it by the state of the stream.
    guest.on('error', () => {});
    if (signal.aborted) return void guest.destroy();
    observer.opened(guest);
    try {
      const channel = MuxChannel.accept(session, stream, result);
      const end = channelDuplex(channel, { deliversEnd: true, readsOnMs: GRACE_MS });
      await joinDuplex(end, guest, { halfClose, lingerMs: GRACE_MS });
    } catch (error) {
      logger.debug({ ch: stream.id, err: toFairleadError(error).message }, 'stream ended by an error');
      guest.destroy();
    } finally {
      observer.closed(guest);
    }
  }

  #methodOf({ method }: JsonObject): AgentStreamName {
    if (isStreamMethod(method)) return method;
    const name = JSON.stringify(method ?? null).slice(0, 64);
    throw new FairleadError('METHOD_NOT_FOUND', `this agent knows no method ${name} that is called by an OPEN frame`);
  }

  async #connect<M extends AgentStreamName>(method: M, params: unknown, signal: AbortSignal): Promise<OpenedEnd> {
    const { vms, policy } = this.#options;
    policy.checkMethod(method);
    const parsed = parseParams(method, params);
    return streamMethods(await vms, policy)[method](parsed, signal);
  }
}
