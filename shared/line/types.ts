/** What the user of a line gives and gets. */
import type { Clock } from '../clock.ts';
import type { FairleadError, JsonObject } from '../errors.ts';
import type { PeerLimits, RequestContext } from '../jsonrpc/types.ts';
import type { LocalHello } from '../mux/hello.ts';
import type { MuxLimits } from '../mux/limits.ts';
import type { MemoryPool } from '../mux/pool.ts';
import type { ResumeEntry } from '../mux/resume-entry.ts';
import type { RawStream } from '../mux/stream-handler.ts';
import type { HeldStreams } from './held-streams.ts';
import type { MessageSocket } from './message-socket.ts';

export interface LineHandlers {
  /** As in PeerOptions: `params` without `_meta`; what it throws goes to the caller. */
  onRequest(method: string, params: JsonObject, context: RequestContext): Promise<unknown>;
  onNotification?(method: string, params: JsonObject): void;
  /** The other side opens a stream: attach a handler and accept or refuse it, now or later (`MuxChannel.accept` does both). */
  onOpen?(stream: RawStream, meta: JsonObject): void;
  /** A dialler holds a stream of an earlier line, which is for a relay to go on with; see MuxSessionOptions. */
  onResume?(stream: RawStream, entry: ResumeEntry): void;
  /** The other side wants the line to end: open nothing new on it, and close it within `drainMs`. */
  onGoAway?(goAway: GoAway): void;
}

export interface GoAway {
  readonly code: number;
  readonly reason: string;
  /** Time for what is open to end. */
  readonly drainMs: number;
  /** A dialler comes back after a random time within this. */
  readonly spreadMs: number;
}

export interface LineLogger {
  debug(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export interface LineLimits {
  readonly mux: Partial<MuxLimits>;
  readonly rpc: Partial<PeerLimits>;
  /** Time for the other side's HELLO. */
  readonly helloTimeoutMs: number;
  /** A PING goes out this often, give or take 20 %. */
  readonly heartbeatMs: number;
  /** Silence after which the other side counts as dead. */
  readonly deadAfterMs: number;
}

export interface LineOptions {
  readonly socket: MessageSocket;
  /** Who dialled: it has the odd stream ids. */
  readonly role: 'dialer' | 'acceptor';
  readonly hello: LocalHello;
  readonly handlers: LineHandlers;
  readonly limits?: Partial<LineLimits>;
  /** Of a dialler: its streams, which wait here for the next line when this one breaks. Its pool counts then. */
  readonly held?: HeldStreams | undefined;
  /** Memory of the process for receive windows; default one for all lines of 512 MiB. */
  readonly pool?: MemoryPool;
  readonly clock?: Clock;
  readonly logger?: LineLogger;
}

/** `error` is undefined when this side or the other closed on purpose (1000, 1001). */
export interface LineClosed {
  readonly error: FairleadError | undefined;
  readonly code: number;
  readonly reason: string;
}
