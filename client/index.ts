/**
 * `fairlead/client` for Node:
 *
 *     await using hub = await connect('wss://hub.example', token);
 *     await hub.call('vm.start', { vm: 'web' });
 *     const stream = await hub.openStream('web', 1234);   // a Duplex; openWebStream gives Web streams
 *
 * docs/howto/use-the-client.md has an example that runs. Web pages get browser.ts under the same name.
 */
import type { Duplex } from 'node:stream';
import type { MuxChannel } from '../shared/mux/channel.ts';
import { channelDuplex } from '../shared/node/channel-duplex.ts';
import { VERSION } from '../shared/node/version.ts';
import type { Result, StreamMethodName } from '../shared/protocol/methods.ts';
import type { WrittenFile } from '../shared/protocol/methods-guest-files.ts';
import type { OperatorParams } from '../shared/protocol/operator.ts';
import { dialNode } from './dial-node.ts';
import { type GuestConnection, guestConnections, type ListenTarget } from './guest-connections.ts';
import { type GuestFile, readFrom, writeTo } from './guest-files.ts';
import { HubClient, type OpenLimits, type StreamTarget, streamParams } from './hub-client.ts';
import { HubLine, type HubLineState } from './hub-line.ts';
import { operatorUrl } from './hub-url.ts';
import { OpenStreams } from './open-streams.ts';

export { FairleadError, isFairleadError } from '../shared/errors.ts';
export type { ErrorCode } from '../shared/protocol/error-table.ts';
export type { MethodName, Params, ParamsInput, Result, StreamMethodName } from '../shared/protocol/methods.ts';
export type { OperatorParams } from '../shared/protocol/operator.ts';
export type { VmEvent } from '../shared/protocol/vm-events.ts';
export type { CallLimits } from './hub-client.ts';
export type { WebStream } from './web-stream.ts';
export type { GuestConnection, GuestFile, HubLineState, ListenTarget, OpenLimits, StreamTarget };
export { HubClient };

const DEFAULT_TIMEOUT_MS = 60_000;
/** Somebody may wait at a terminal, and a guest may read nothing. */
const LINGER_MS = 5_000;

export interface ConnectOptions {
  /** Deadline of each call that has none of its own, and of the connection's making; 60 s, 0 for none. */
  readonly timeoutMs?: number;
  /** Gives up the first attempt. */
  readonly signal?: AbortSignal | undefined;
  /** Certificates (PEM) by which the hub is known, instead of the system's. */
  readonly ca?: string | Uint8Array | undefined;
  /** Dial again whenever the line breaks; `false` only while streams wait for it. */
  readonly lasting?: boolean;
  /** For the hub's logs. */
  readonly software?: string;
  /** Told of each line that is up and of each break. Must not throw. */
  readonly onState?: ((state: HubLineState) => void) | undefined;
}

export interface FileTarget extends OpenLimits {
  /** The host that the VM is on, where its name alone does not say. */
  readonly host?: string | undefined;
}

export interface OpenedStream<M extends StreamMethodName = 'stream.open'> {
  readonly stream: Duplex;
  readonly opened: Result<M>;
}

/** @throws FairleadError CONNECT_FAILED when the hub cannot be reached, UNAUTHENTICATED or PERMISSION_DENIED, TIMEOUT, INVALID_PARAMS */
export async function connect(url: string, token: string, options: ConnectOptions = {}): Promise<Hub> {
  const {
    timeoutMs = DEFAULT_TIMEOUT_MS,
    signal,
    ca,
    lasting = true,
    software = `fairlead-client/${VERSION}`,
    onState,
  } = options;
  const target = { url: operatorUrl(url), token, ca, timeoutMs };
  const dial = (given: AbortSignal | undefined) => dialNode({ ...target, signal: given });
  return new Hub(await HubLine.connect({ dial, software, lasting, onState }, signal), { timeoutMs });
}

export class Hub extends HubClient {
  readonly #streams = new OpenStreams();

  /**
   * A stream to a vsock port of a guest: half-open, with back pressure; a reset is its 'error', with a FairleadError. 'finish' says that the
   * guest's side has taken all that was written.
   */
  async openStream(vm: string, port: number, options: StreamTarget & OpenLimits = {}): Promise<Duplex> {
    return (await this.open('stream.open', streamParams(vm, port, options), options)).stream;
  }

  /** Any method that is opened as a stream, with its answer. */
  async open<M extends StreamMethodName>(
    method: M,
    params: OperatorParams<M>,
    limits: OpenLimits = {},
  ): Promise<OpenedStream<M>> {
    const { channel, opened } = await this.openChannel(method, params, limits);
    return { stream: this.#duplex(channel), opened };
  }

  /** A file of a guest that has a guest agent. */
  async readFile(vm: string, path: string, options: FileTarget = {}): Promise<GuestFile> {
    const { host, ...limits } = options;
    const { stream, opened } = await this.open('guest.readFile', { vm, path, ...(host !== undefined && { host }) }, limits);
    return readFrom(stream, opened.sizeBytes);
  }

  /** Puts a file into a guest that has a guest agent: there is the whole of it, or what was there before. */
  async writeFile(
    vm: string,
    path: string,
    chunks: AsyncIterable<Uint8Array>,
    options: FileTarget & { readonly mode?: number | undefined } = {},
  ): Promise<WrittenFile> {
    const { host, mode, ...limits } = options;
    const params = { vm, path, ...(mode !== undefined && { mode }), ...(host !== undefined && { host }) };
    const { stream } = await this.open('guest.writeFile', params, limits);
    return writeTo(stream, chunks);
  }

  /**
   * Connections that a guest makes to CID 2 on `port`, until the loop over them ends or the signal fires. Takes the port up again after a
   * line that was lost for good and a restart of the agent.
   */
  listen(vm: string, port: number, options: ListenTarget = {}): AsyncIterable<GuestConnection<Duplex>> {
    return guestConnections(this, { ...options, vm, port }, (channel: MuxChannel) => this.#duplex(channel));
  }

  /** What streams were written to their end arrives first, within 5 s; those that are still open then end with an error. */
  override async [Symbol.asyncDispose](): Promise<void> {
    await this.#streams.delivered(LINGER_MS);
    await super[Symbol.asyncDispose]();
  }

  #duplex(channel: MuxChannel): Duplex {
    return this.#streams.add(channelDuplex(channel, { copies: true }));
  }
}
