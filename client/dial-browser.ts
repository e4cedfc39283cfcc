/**
 * Dials a hub from a web page. A page can set no header, so the token goes along as a second sub-protocol (`bearerProtocol`), which the hub
 * reads and never answers with; the hub must allow the page's origin (`allowedOrigins`). Of a refusal a page is told nothing.
 */
import { FairleadError } from '../shared/errors.ts';
import type { MessageSocket } from '../shared/line/message-socket.ts';
import { bearerProtocol } from '../shared/protocol/bearer.ts';
import { SUBPROTOCOL } from '../shared/protocol/version.ts';
import { webSocketMessages } from './web-socket.ts';

export interface BrowserDialOptions {
  readonly url: URL;
  readonly token: string;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

/** @throws FairleadError CONNECT_FAILED, whatever hinders it; INVALID_PARAMS for what is no token */
export async function dialBrowser({ url, token, timeoutMs, signal }: BrowserDialOptions): Promise<MessageSocket> {
  signal?.throwIfAborted();
  const { promise, resolve, reject } = Promise.withResolvers<MessageSocket>();
  const socket = new WebSocket(url, [SUBPROTOCOL, bearerProtocol(token)]);
  const giveUp = (error: unknown): void => {
    reject(error);
    socket.close();
  };
  const abort = (): void => giveUp(signal?.reason);
  const late = (): void => giveUp(new FairleadError('TIMEOUT', `the hub at ${url.host} did not answer within ${timeoutMs} ms`));
  const timer = timeoutMs === 0 ? undefined : setTimeout(late, timeoutMs);
  signal?.addEventListener('abort', abort, { once: true });
  // Wrapped in the very turn of the event: what the hub says first may come in the next.
  socket.addEventListener('open', () => resolve(webSocketMessages(socket)), { once: true });
  socket.addEventListener('error', () => reject(refused(url)), { once: true });
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', abort);
  }
}

function refused(url: URL): FairleadError {
  const message =
    `could not connect to the hub at ${url.host}: it is away, refuses the token, or does not allow this page's origin ` +
    '(allowedOrigins); the browser does not tell which, the log of the hub does';
  return new FairleadError('CONNECT_FAILED', message);
}
