/** A MessageSocket over a WebSocket of the `ws` package (being written; the signatures are final). */
import type { WebSocket } from 'ws';
import type { MessageSocket } from '../line/message-socket.ts';

/** Options for `new WebSocketServer` and `new WebSocket` alike. */
export const WS_OPTIONS = {
  perMessageDeflate: false,
  maxPayload: 256 * 1024 + 64,
  maxFragments: 64,
  maxBufferedChunks: 1024,
} as const;

/** Leaves the mask zero, so that nothing is XORed; for `wss:` diallers only (RFC 6455 §10.3 is about plain text and browsers). */
export function zeroMask(mask: Uint8Array): void {
  mask.fill(0);
}

export declare function wsSocket(socket: WebSocket): MessageSocket;
