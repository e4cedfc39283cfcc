/**
 * The command line's connection to the hub: the client library (client/), as commands want it. A connection lives as long as one command,
 * and dials again only for streams that are open, or for a command that says it is `lasting`. With `--command-id` the one command that is given
 * over it has that id.
 */
import { readFile } from 'node:fs/promises';
import { connect, type Hub, type OpenedStream } from '../client/index.ts';
import { FairleadError, type JsonObject } from '../shared/errors.ts';
import { VERSION } from '../shared/node/version.ts';
import { changesSomething } from '../shared/protocol/changes.ts';
import type { MethodName, ParamsInput, Result, StreamMethodName } from '../shared/protocol/methods.ts';
import type { WhenOffline } from '../shared/protocol/methods-command.ts';
import type { OperatorParams } from '../shared/protocol/operator.ts';
import type { VmEvent } from '../shared/protocol/vm-events.ts';
import type { HubContext } from './context.ts';
import { openStream } from './open-stream.ts';

interface StreamOptions {
  readonly host?: string | undefined;
  readonly signal?: AbortSignal;
}

export interface HubConnection extends AsyncDisposable {
  /** The library's own. */
  readonly client: Hub;
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
  /** Whether a command waits for a host that is away. */
  readonly whenOffline?: WhenOffline | undefined;
  /** Dials again whenever the line breaks: for commands that serve others until they are ended. */
  readonly lasting?: boolean | undefined;
}

/**
 * @throws CONNECT_FAILED when the hub cannot be reached, UNAUTHENTICATED or PERMISSION_DENIED when it refuses the token, TIMEOUT.
 */
export async function connectHub(context: HubContext, options: ConnectOptions): Promise<HubConnection> {
  const { timeoutMs, signal, lasting = false } = options;
  const ca = context.ca === undefined ? undefined : await readFile(context.ca);
  const software = `fairlead-cli/${VERSION}`;
  const client = await connect(context.hub, context.token, { timeoutMs, signal, ca, lasting, software });
  const nextCommandId = commandIds(options.commandId);
  const limitsOf = (method: string, params: JsonObject, limits: { timeoutMs?: number } = {}) => ({
    signal,
    whenOffline: options.whenOffline,
    commandId: changesSomething(method, params) ? nextCommandId() : undefined,
    ...limits,
  });
  const open: HubConnection['open'] = (method, params, { host, signal: given } = {}) =>
    openStream(client, method, withHost(method, params, host), { signal: given, timeoutMs: 0 });
  return {
    client,
    call: (method, params, host, limits) => {
      const whole = withHost(method, params, host);
      // SAFETY: params of the contract are plain JSON objects.
      return client.call(method, whole, limitsOf(method, whole as JsonObject, limits));
    },
    callRaw: async (method, params) => client.callRaw(method, params, limitsOf(method, params)),
    follow: (params, { host, signal: given, onEvent }) =>
      client.follow(withHost('vm.events', params, host), { signal: given, onEvent }),
    openStream: (params, given) => open('stream.open', params, given),
    open,
    [Symbol.asyncDispose]: () => client[Symbol.asyncDispose](),
  };
}

/** @throws FairleadError INVALID_PARAMS when the one id that was given would be for a second command */
function commandIds(given: string | undefined): () => string | undefined {
  let isUsed = false;
  return () => {
    if (given === undefined) return undefined;
    if (isUsed) throw new FairleadError('INVALID_PARAMS', '--command-id is for one command, and this would give several');
    isUsed = true;
    return given;
  };
}

function withHost<M extends MethodName>(_method: M, params: ParamsInput<M>, host: string | undefined): OperatorParams<M> {
  return host === undefined ? params : { ...params, host };
}
