/**
 * `fairlead/client` for web pages: no Node built-in is loaded by it (a test holds it to that).
 *
 *     const hub = await connect('wss://hub.example', token);
 *     const { hosts } = await hub.call('host.list', {});
 *     const { readable, writable } = await hub.openWebStream('web', 1234);
 */

import { dialBrowser } from './dial-browser.ts';
import { type GuestConnection, guestConnections, type ListenTarget } from './guest-connections.ts';
import { HubClient } from './hub-client.ts';
import { HubLine, type HubLineState } from './hub-line.ts';
import { operatorUrl } from './hub-url.ts';
import { type WebStream, webStream } from './web-stream.ts';

export { FairleadError, isFairleadError } from '../shared/errors.ts';
export type { ErrorCode } from '../shared/protocol/error-table.ts';
export type { MethodName, Params, ParamsInput, Result, StreamMethodName } from '../shared/protocol/methods.ts';
export type { OperatorParams } from '../shared/protocol/operator.ts';
export type { VmEvent } from '../shared/protocol/vm-events.ts';
export type { CallLimits, OpenLimits, StreamTarget } from './hub-client.ts';
export type { GuestConnection, HubLineState, ListenTarget, WebStream };

const DEFAULT_TIMEOUT_MS = 60_000;

export interface ConnectOptions {
  /** Deadline of each call that has none of its own, and of the connection's making; 60 s, 0 for none. */
  readonly timeoutMs?: number;
  /** Gives up the first attempt. */
  readonly signal?: AbortSignal;
  /** Told of each line that is up and of each break, for a page that shows it. Must not throw. */
  readonly onState?: (state: HubLineState) => void;
}

/** @throws FairleadError CONNECT_FAILED, whatever hinders it; TIMEOUT, INVALID_PARAMS */
export async function connect(url: string, token: string, options: ConnectOptions = {}): Promise<Hub> {
  const { timeoutMs = DEFAULT_TIMEOUT_MS, signal, onState } = options;
  const target = { url: operatorUrl(url), token, timeoutMs };
  const dial = (given: AbortSignal | undefined) => dialBrowser({ ...target, signal: given });
  return new Hub(await HubLine.connect({ dial, software: 'fairlead-client/browser', lasting: true, onState }, signal), {
    timeoutMs,
  });
}

export class Hub extends HubClient {
  /** Connections that a guest makes to CID 2 on `port`, until the loop over them ends or the signal fires. */
  listen(vm: string, port: number, options: ListenTarget = {}): AsyncIterable<GuestConnection<WebStream>> {
    return guestConnections(this, { ...options, vm, port }, webStream);
  }
}
