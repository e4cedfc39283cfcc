/** The actuator of a hub: commands over the hosts' lines, probes over streams into guests, webhooks over HTTP. */
import { FairleadError, type JsonObject, toFairleadError } from '../../shared/errors.ts';
import { MuxChannel } from '../../shared/mux/channel.ts';
import { RESET_CODES } from '../../shared/mux/reset-codes.ts';
import type { Bus } from '../bus.ts';
import type { HostSession } from '../rpc/dispatcher.ts';
import type { Actuator, CommandOptions, Observation, ProbeOptions } from './actuator.ts';
import { askWebhook } from './webhook.ts';

export interface HubActuatorOptions {
  readonly session: (host: string) => HostSession | undefined;
  readonly bus: Bus;
}

const MAX_HEARD = 64 * 1024;
const GOOD: Observation = { answer: 'success', detail: '' };

export class HubActuator implements Actuator {
  readonly #options: HubActuatorOptions;

  constructor(options: HubActuatorOptions) {
    this.#options = options;
  }

  isUp(host: string): boolean {
    return this.#options.session(host) !== undefined;
  }

  async whenUp(host: string, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (this.isUp(host)) return;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    using _ = this.#options.bus.subscribe('host.connected', (message) => {
      if (message.host === host) resolve();
    });
    const leave = (): void => reject(signal.reason);
    signal.addEventListener('abort', leave, { once: true });
    try {
      await promise;
    } finally {
      signal.removeEventListener('abort', leave);
    }
  }

  /**
   * Whoever stops waiting does not cancel it: the host ends what it has begun, and its journal answers the next driver. So the signal is looked
   * at and not listened to, for which there are too many of these at once.
   */
  async command(host: string, method: string, params: JsonObject, options: CommandOptions): Promise<unknown> {
    const { commandId, actor, fence, timeoutMs, signal } = options;
    const meta = { commandId, actor, fence: { ...fence } };
    signal.throwIfAborted();
    const answer = await this.#session(host).peer.call(method, params, { timeoutMs, meta });
    signal.throwIfAborted();
    return answer;
  }

  async ask(
    host: string,
    method: string,
    params: JsonObject,
    options: { timeoutMs: number; signal: AbortSignal },
  ): Promise<unknown> {
    return await this.#session(host).peer.call(method, params, options);
  }

  async probe(host: string, options: ProbeOptions): Promise<Observation> {
    const { vm, port, timeoutMs, signal } = options;
    const end = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
    try {
      const params = { vm, port, connectTimeoutMs: timeoutMs };
      const meta = { method: 'stream.open', params };
      const channel = await orAborted(MuxChannel.open(this.#session(host).mux, meta, { signal: end }), end);
      try {
        return await converse(channel, options, end);
      } finally {
        channel.reset(RESET_CODES.CANCELLED, 'the probe is done');
      }
    } catch (error) {
      return { answer: 'failure', detail: `port ${port} of VM ${vm}: ${toFairleadError(error).message}` };
    }
  }

  webhook(url: string, body: JsonObject, options: { timeoutMs: number; signal: AbortSignal }): Promise<Observation> {
    return askWebhook(url, body, options);
  }

  #session(host: string): HostSession {
    const session = this.#options.session(host);
    if (session === undefined) throw new FairleadError('HOST_UNREACHABLE', `host ${host} has no line to the hub`);
    return session;
  }
}

/** Says what is to be said and listens until it has heard what it expects. Without an expectation, that the port answers is enough. */
async function converse(
  channel: MuxChannel,
  { vm, port, send, expect }: ProbeOptions,
  signal: AbortSignal,
): Promise<Observation> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const closed = new FairleadError('STREAM_RESET', 'the guest closed the connection');
  let heard = '';
  const listen = (): void => {
    for (let bytes = channel.read(); bytes !== undefined; bytes = channel.read()) {
      heard = `${heard}${Buffer.from(bytes).toString('latin1')}`.slice(-MAX_HEARD);
    }
    if (expect !== undefined && heard.includes(Buffer.from(expect).toString('latin1'))) resolve();
    else if (channel.ended) reject(closed);
  };
  channel.attach({ onReadable: listen, onDrain: () => {}, onClose: (error) => reject(error ?? closed) });
  if (send !== undefined) channel.write(Buffer.from(send));
  if (expect === undefined) return GOOD;
  listen();
  try {
    await orAborted(promise, signal);
    return GOOD;
  } catch (error) {
    return {
      answer: 'failure',
      detail: `port ${port} of VM ${vm} did not say ${JSON.stringify(expect)}: ${toFairleadError(error).message}`,
    };
  }
}

async function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const leave = (): void => reject(toFairleadError(signal.reason, 'TIMEOUT'));
  signal.addEventListener('abort', leave, { once: true });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', leave);
  }
}
