/**
 * The operator's end of the line: one WebSocket to the hub's `/rpc`, typed calls, and streams into guests.
 *
 * A connection lives as long as one command. Losing it fails the calls that are pending with INTERRUPTED; none is retried behind the
 * caller's back, since it may have had its effect. Streams that are open outlive it (operator-line.ts). Each call that changes something on a host has a command id: its failure
 * names it, and the same command with the same id (`--command-id`) is not run twice.
 */
import { readFile } from 'node:fs/promises';
import type { ClientRequest, IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import * as v from 'valibot';
import { WebSocket } from 'ws';
import { newCommandId, withCommandId } from '../shared/command-id.ts';
import { FairleadError, type JsonObject } from '../shared/errors.ts';
import type { CallOptions } from '../shared/jsonrpc/types.ts';
import type { Line } from '../shared/line/line.ts';
import type { MessageSocket } from '../shared/line/message-socket.ts';
import { MuxChannel } from '../shared/mux/channel.ts';
import { channelDuplex } from '../shared/node/channel-duplex.ts';
import { maskOptions, WS_OPTIONS, wsSocket } from '../shared/node/ws-socket.ts';
import { changesSomething } from '../shared/protocol/changes.ts';
import { type ErrorCode, isErrorCode } from '../shared/protocol/error-table.ts';
import { Refusal } from '../shared/protocol/handshake.ts';
import {
  isMethodName,
  type MethodName,
  methodContract,
  type ParamsInput,
  type Result,
  type StreamMethodName,
} from '../shared/protocol/methods.ts';
import { parseNotification, parseResult } from '../shared/protocol/validate.ts';
import { SUBPROTOCOL } from '../shared/protocol/version.ts';
import type { VmEvent } from '../shared/protocol/vm-events.ts';
import type { HubContext } from './context.ts';
import { OperatorLine } from './operator-line.ts';

const OPERATOR_PATH = '/rpc';
/** What of a refused upgrade's body is read for its message. */
const MAX_REFUSAL_BYTES = 16 * 1024;

export interface OpenedStream<M extends StreamMethodName = 'stream.open'> {
  readonly stream: Duplex;
  readonly opened: Result<M>;
}

interface StreamOptions {
  readonly host?: string | undefined;
  readonly signal?: AbortSignal;
}

export interface HubConnection extends AsyncDisposable {
  /** Call a method; `host` goes with methods that run on a host. The result is validated. */
  call<M extends MethodName>(
    method: M,
    params: ParamsInput<M>,
    host?: string,
    limits?: { timeoutMs: number },
  ): Promise<Result<M>>;
  /** Call any method, known here or not, with the params as they are. */
  callRaw(method: string, params: JsonObject): Promise<unknown>;
  /** `vm.events` with follow: each event as it comes, until the signal fires. */
  follow(
    params: ParamsInput<'vm.events'>,
    options: { host?: string | undefined; signal: AbortSignal; onEvent: (event: VmEvent) => void },
  ): Promise<void>;
  openStream(params: ParamsInput<'stream.open'>, options?: StreamOptions): Promise<OpenedStream>;
  /** Call a method that is opened as a stream. */
  open<M extends StreamMethodName>(method: M, params: ParamsInput<M>, options?: StreamOptions): Promise<OpenedStream<M>>;
}

export interface ConnectOptions {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
  /** Of the one command that is given over this connection; without it each gets an id of its own. */
  readonly commandId?: string | undefined;
}

/**
 * @throws CONNECT_FAILED when the hub cannot be reached, UNAUTHENTICATED or PERMISSION_DENIED when it refuses the token, TIMEOUT.
 */
export async function connectHub(context: HubContext, options: ConnectOptions): Promise<HubConnection> {
  const operator = await OperatorLine.connect(
    (signal) => dial(context, { timeoutMs: options.timeoutMs, signal }),
    options.signal,
  );
  const timeout: CallOptions = { timeoutMs: options.timeoutMs, signal: options.signal };
  const nextCommandId = commandIds(options.commandId);
  const call = async (method: string, params: JsonObject, limits: Partial<CallOptions> = {}): Promise<unknown> => {
    const { peer } = await operator.line();
    if (!isCommand(method, params)) return peer.call(method, params, { ...timeout, ...limits });
    const commandId = nextCommandId();
    try {
      return await peer.call(method, params, { ...timeout, ...limits, meta: { commandId } });
    } catch (error) {
      throw withCommandId(error, commandId);
    }
  };
  const open = async <M extends StreamMethodName>(
    method: M,
    params: ParamsInput<M>,
    { host, signal }: StreamOptions = {},
  ): Promise<OpenedStream<M>> => {
    const { mux } = await operator.line();
    const channel = await MuxChannel.open(
      mux,
      { method, params: withHost(params, host) },
      signal === undefined ? {} : { signal },
    );
    return { stream: channelDuplex(channel), opened: parseResult(method, channel.meta) };
  };

  return {
    async call(method, params, host, limits) {
      return parseResult(method, await call(method, withHost(params, host), limits));
    },
    callRaw: (method, params) => call(method, params),
    async follow(params, { host, signal, onEvent }) {
      await followEvents(await operator.line(), withHost(params, host), signal, onEvent);
    },
    openStream: (params, options) => open('stream.open', params, options),
    open,
    [Symbol.asyncDispose]: () => operator[Symbol.asyncDispose](),
  };
}

/** Ends well when the follower asked for the end, and fails for any other reason. */
async function followEvents(
  line: Line,
  params: JsonObject,
  signal: AbortSignal,
  onEvent: (event: VmEvent) => void,
): Promise<void> {
  try {
    await line.peer.call('vm.events', params, {
      timeoutMs: 0,
      signal,
      onProgress: (value) => onEvent(parseNotification('vm.event', value)),
    });
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

/** What a host keeps in its journal. */
function isCommand(method: string, params: JsonObject): boolean {
  return changesSomething(method, params) && isMethodName(method) && methodContract(method).target === 'agent';
}

/** @throws FairleadError INVALID_PARAMS when the one id that was given would be for a second command */
function commandIds(given: string | undefined): () => string {
  let isUsed = false;
  return () => {
    if (given === undefined) return newCommandId();
    if (isUsed) throw new FairleadError('INVALID_PARAMS', '--command-id is for one command, and this would give several');
    isUsed = true;
    return given;
  };
}

function withHost(params: object, host: string | undefined): JsonObject {
  // SAFETY: params of the contract are plain JSON objects; undefined fields are dropped by JSON.stringify.
  return (host === undefined ? params : { ...params, host }) as JsonObject;
}

async function dial(
  context: HubContext,
  options: { timeoutMs: number; signal: AbortSignal | undefined },
): Promise<MessageSocket> {
  const url = operatorUrl(context.hub);
  const ca = context.ca === undefined ? undefined : await readFile(context.ca);
  const { promise, resolve, reject } = Promise.withResolvers<MessageSocket>();
  const socket = new WebSocket(url, SUBPROTOCOL, {
    ...WS_OPTIONS,
    ...maskOptions(url),
    headers: { authorization: `Bearer ${context.token}` },
    handshakeTimeout: options.timeoutMs,
    ...(ca !== undefined && { ca }),
  });
  const abort = (): void => socket.terminate();
  options.signal?.addEventListener('abort', abort, { once: true });
  // Wrapped in the very turn of the event: what the hub says first may come in the next.
  socket.once('open', () => resolve(wsSocket(socket)));
  socket.once('unexpected-response', (request: ClientRequest, response: IncomingMessage) => {
    void refusal(url, response).then((error) => {
      reject(error);
      request.destroy();
    });
  });
  socket.on('error', (error) => reject(unreachable(url, error)));
  try {
    return await promise;
  } finally {
    options.signal?.removeEventListener('abort', abort);
  }
}

function operatorUrl(hub: string): URL {
  const url = new URL(hub);
  url.protocol = url.protocol === 'https:' || url.protocol === 'wss:' ? 'wss:' : 'ws:';
  url.pathname = `${url.pathname.replace(/\/+$/, '')}${OPERATOR_PATH}`;
  return url;
}

function unreachable(url: URL, cause: Error): FairleadError {
  return new FairleadError(
    'CONNECT_FAILED',
    `could not reach the hub at ${url.host}: ${cause.message}; is it running, and is the address right?`,
    { cause },
  );
}

/** The hub's own words, where it said something. */
async function refusal(url: URL, response: IncomingMessage): Promise<FairleadError> {
  let body = '';
  for await (const chunk of response) {
    body += String(chunk);
    if (body.length > MAX_REFUSAL_BYTES) break;
  }
  const { code, message } = refusalIn(body);
  const status = response.statusCode ?? 0;
  return new FairleadError(code, `the hub at ${url.host} refused the connection with status ${status}: ${message}`);
}

function refusalIn(body: string): { code: ErrorCode; message: string } {
  let json: unknown;
  try {
    json = JSON.parse(body);
  } catch {
    json = undefined;
  }
  const parsed = v.safeParse(Refusal, json);
  if (!parsed.success) return { code: 'CONNECT_FAILED', message: 'it gave no reason; is this address a Fairlead hub?' };
  const { code, message } = parsed.output.error;
  return { code: isErrorCode(code) ? code : 'CONNECT_FAILED', message };
}
