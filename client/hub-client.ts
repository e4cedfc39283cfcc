/**
 * The hub as programs see it: typed calls from the contract, events, and streams into guests. Pure; `index.ts` makes one for Node and
 * `browser.ts` one for web pages.
 *
 * The line comes back by itself (hub-line.ts). A call that was under way when it broke fails with INTERRUPTED and is never sent again behind
 * the caller's back: it may have had its effect. A call that changes something on a host has a command id, which such a failure names
 * (`details.commandId`); the same call with the same id is answered, and not run twice. Streams that are open live through the break.
 */
import { newCommandId, withCommandId } from '../shared/command-id.ts';
import { FairleadError, type JsonObject } from '../shared/errors.ts';
import type { CallOptions } from '../shared/jsonrpc/types.ts';
import type { Line } from '../shared/line/line.ts';
import { MuxChannel } from '../shared/mux/channel.ts';
import { changesSomething } from '../shared/protocol/changes.ts';
import { isMethodName, type MethodName, methodContract, type Result, type StreamMethodName } from '../shared/protocol/methods.ts';
import type { WhenOffline } from '../shared/protocol/methods-command.ts';
import type { OperatorParams } from '../shared/protocol/operator.ts';
import { parseResult } from '../shared/protocol/validate.ts';
import type { VmEvent } from '../shared/protocol/vm-events.ts';
import { followEvents } from './follow-events.ts';
import type { HubLine } from './hub-line.ts';
import { type WebStream, webStream } from './web-stream.ts';

export interface CallLimits {
  /** Milliseconds from now, 0 for none; by default what `connect` was given. */
  readonly timeoutMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Of a call that changes something on a host; one is made up where it is left out. */
  readonly commandId?: string | undefined;
  /** What becomes of such a call while its host is away: it fails (the default), or waits for the host until its time is over. */
  readonly whenOffline?: WhenOffline | undefined;
  /** Told of each `$/progress` of the call. */
  readonly onProgress?: ((value: unknown) => void) | undefined;
}

export interface OpenLimits {
  /** Time for the stream to be open; by default what `connect` was given, 0 for none. */
  readonly timeoutMs?: number | undefined;
  /** Gives up the attempt; a stream that is open has its own end. */
  readonly signal?: AbortSignal | undefined;
}

/** Where a stream leads. */
export interface StreamTarget {
  /** The host that the VM is on, where its name alone does not say. */
  readonly host?: string | undefined;
  /** How long the host tries a guest that is not ready, in milliseconds; 10 s. */
  readonly connectTimeoutMs?: number | undefined;
}

export interface OpenedChannel<M extends StreamMethodName> {
  readonly channel: MuxChannel;
  readonly opened: Result<M>;
}

export class HubClient implements AsyncDisposable {
  readonly #line: HubLine;
  readonly #timeoutMs: number;

  constructor(line: HubLine, options: { readonly timeoutMs: number }) {
    this.#line = line;
    this.#timeoutMs = options.timeoutMs;
  }

  /** Disposed of. */
  get isClosed(): boolean {
    return this.#line.isClosed;
  }

  /** @throws FairleadError what the method's contract names, PROTOCOL_ERROR for an answer of the wrong shape */
  async call<M extends MethodName>(method: M, params: OperatorParams<M>, limits?: CallLimits): Promise<Result<M>> {
    return parseResult(method, await this.callRaw(method, jsonOf(params), limits));
  }

  /** A call as it is written, of a method that is known here or not. */
  async callRaw(method: string, params: JsonObject, limits: CallLimits = {}): Promise<unknown> {
    const { signal, onProgress, timeoutMs = this.#timeoutMs } = limits;
    const options: CallOptions = { timeoutMs, signal, ...(onProgress !== undefined && { onProgress }) };
    const { peer } = this.#line.up ?? (await this.#here({ signal, timeoutMs }));
    if (!isCommand(method, params)) return peer.call(method, params, options);
    const commandId = limits.commandId ?? newCommandId();
    try {
      const { whenOffline } = limits;
      const meta = { commandId, ...(whenOffline !== undefined && { whenOffline }) };
      return await peer.call(method, params, { ...options, meta });
    } catch (error) {
      throw withCommandId(error, commandId);
    }
  }

  /**
   * Events of one VM or of all of a host, each once and as it comes, until the signal fires. A line that comes back by itself goes on where
   * the last one ended, and so it does when the host was away; else it rejects with INTERRUPTED.
   */
  async follow(
    params: OperatorParams<'vm.events'>,
    { signal, onEvent }: { readonly signal: AbortSignal; readonly onEvent: (event: VmEvent) => void },
  ): Promise<void> {
    const outlivesLines = this.#line.isLasting;
    await followEvents((own, limits) => this.callRaw('vm.events', jsonOf(own), limits), params, {
      signal,
      onEvent,
      outlivesLines,
    });
  }

  /** A stream to a vsock port of a guest, as the web has streams. */
  async openWebStream(vm: string, port: number, options: StreamTarget & OpenLimits = {}): Promise<WebStream> {
    const { channel } = await this.openChannel('stream.open', streamParams(vm, port, options), options);
    return webStream(channel);
  }

  /** Any method that is opened as a stream, without a wrapping of its own. */
  async openChannel<M extends StreamMethodName>(
    method: M,
    params: OperatorParams<M>,
    { signal, timeoutMs = this.#timeoutMs }: OpenLimits = {},
  ): Promise<OpenedChannel<M>> {
    using limit = limitOf(signal, timeoutMs, `opening a stream with ${method}`);
    const { mux } = await this.#here({ signal: limit.signal });
    const meta = { method, params: jsonOf(params) };
    const channel = await MuxChannel.open(mux, meta, limit.signal === undefined ? {} : { signal: limit.signal });
    return { channel, opened: parseResult(method, channel.meta) };
  }

  /** Streams that are open end with an error; whoever wants them whole waits for them first (`close()` of their writer). */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#line[Symbol.asyncDispose]();
  }

  /** The line, waited for no longer than the call may take. */
  async #here({ signal, timeoutMs = 0 }: OpenLimits): Promise<Line> {
    if (this.#line.up !== undefined) return this.#line.up;
    using limit = limitOf(signal, timeoutMs, 'waiting for the line to the hub');
    const given = limit.signal;
    if (given === undefined) return this.#line.line();
    given.throwIfAborted();
    const { promise, reject } = Promise.withResolvers<never>();
    const abort = (): void => reject(given.reason);
    given.addEventListener('abort', abort, { once: true });
    try {
      return await Promise.race([this.#line.line(), promise]);
    } finally {
      given.removeEventListener('abort', abort);
    }
  }
}

export function streamParams(vm: string, port: number, { host, connectTimeoutMs }: StreamTarget): OperatorParams<'stream.open'> {
  return { vm, port, ...(host !== undefined && { host }), ...(connectTimeoutMs !== undefined && { connectTimeoutMs }) };
}

/** What a host keeps in its journal. */
function isCommand(method: string, params: JsonObject): boolean {
  return changesSomething(method, params) && isMethodName(method) && methodContract(method).target === 'agent';
}

function jsonOf(params: object): JsonObject {
  // SAFETY: the params of every method are an object of JSON values (a test holds the table to that); they are parsed by the callee.
  return params as JsonObject;
}

/** The caller's signal, or one that fires when the time is over too; undefined without either. */
function limitOf(
  signal: AbortSignal | undefined,
  timeoutMs: number,
  doing: string,
): Disposable & { signal: AbortSignal | undefined } {
  if (timeoutMs === 0) return { signal, [Symbol.dispose]() {} };
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(new FairleadError('TIMEOUT', `${doing} took more than ${timeoutMs} ms`)), timeoutMs);
  const both = signal === undefined ? late.signal : AbortSignal.any([late.signal, signal]);
  return { signal: both, [Symbol.dispose]: () => clearTimeout(timer) };
}
