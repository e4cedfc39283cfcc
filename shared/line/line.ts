/** The line between two peers (being written; the signatures are final). */
import type { JsonRpcPeer } from '../jsonrpc/peer.ts';
import type { PeerHello } from '../mux/hello.ts';
import type { MuxSession } from '../mux/session.ts';
import type { LineClosed, LineOptions } from './types.ts';

export declare class Line {
  constructor(options: LineOptions);
  readonly peer: JsonRpcPeer;
  readonly mux: MuxSession;
  /** The other side's HELLO; rejects when the line closes before it came. */
  readonly ready: Promise<PeerHello>;
  /** Never rejects. */
  readonly closed: Promise<LineClosed>;
  /** Smoothed round trip; undefined before the first PONG. */
  readonly rttMs: number | undefined;
  /** Close now: pending calls and streams settle. `code` as in RFC 6455 §7.4.1, default 1000. */
  close(code?: number, reason?: string): void;
  /** Ask the other side to leave within `drainMs`; the line stays usable for what is open. */
  goAway(options: { drainMs: number; spreadMs: number; reason?: string }): void;
}
