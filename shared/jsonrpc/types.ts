/** What callers and handlers of a JsonRpcPeer see: the request's context, a call's options, the peer's limits. */
import type { Cancellation } from '../cancellation.ts';
import type { Clock } from '../clock.ts';
import type { FairleadError, JsonObject } from '../errors.ts';

/** Trace headers as W3C Trace Context and Baggage define them, carried in `params._meta` under their own names. */
export interface TraceContext {
  readonly traceparent?: string;
  readonly tracestate?: string;
  readonly baggage?: string;
}

/** What a handler gets beside the params. */
export interface RequestContext {
  readonly id: string | number;
  readonly method: string;
  /**
   * Aborted when the caller cancels, the deadline passes or the peer closes; its reason is the FairleadError (CANCELLED, TIMEOUT,
   * INTERRUPTED) that the call ends with. A handler that starts late calls `signal.throwIfAborted()` first.
   */
  readonly signal: AbortSignal;
  /** The same, for what needs no AbortSignal: it costs less. */
  readonly cancellation: Cancellation;
  /** Milliseconds until the deadline, at least 0; undefined when the caller asked for none. */
  remainingMs(): number | undefined;
  /** Whether the caller asked for progress. */
  readonly wantsProgress: boolean;
  /**
   * Report to the caller; does nothing when it did not ask or the request has ended. Never throws: a value that is no JSON or too
   * long aborts the request instead. May be passed on as a function.
   */
  readonly progress: (value: unknown) => void;
  readonly trace: TraceContext;
  /** `params._meta` as it came, without the fields of this hop (`timeoutMs`, `progressToken`). Not authenticated. */
  readonly meta: JsonObject;
}

export interface CallOptions {
  /** Time for the call to end; default 60 s. 0 means no deadline, for calls that follow something until they are cancelled. */
  readonly timeoutMs?: number | undefined;
  /** Called with each `$/progress` value until the call settles. If it throws, the call is cancelled and rejects with that error. */
  readonly onProgress?: ((value: unknown) => void) | undefined;
  readonly trace?: TraceContext | undefined;
  /** Further fields of `params._meta`. */
  readonly meta?: JsonObject | undefined;
  /** Aborting rejects the call at once (with the signal's reason if that is a FairleadError, else CANCELLED) and tells the callee. */
  readonly signal?: Cancellation | undefined;
}

export interface PeerLimits {
  /** Calls of ours that await an answer. */
  readonly maxPendingCalls: number;
  /** Requests of the other side that run here at once; more are refused with LIMIT_EXCEEDED. */
  readonly maxConcurrentRequests: number;
  /** UTF-8 bytes of one message, either way. */
  readonly maxMessageBytes: number;
  /** Deadline of a call whose sender states none. */
  readonly defaultTimeoutMs: number;
}

export const DEFAULT_PEER_LIMITS: PeerLimits = {
  maxPendingCalls: 1024,
  maxConcurrentRequests: 256,
  maxMessageBytes: 256 * 1024,
  defaultTimeoutMs: 60_000,
};

export interface PeerOptions {
  /** Hands one message to the line. Not called after `close`. */
  readonly send: (text: string) => void;
  /** The same of progress. What it throws ends the request that it is of; `send` is taken without it. */
  readonly sendProgress?: ((text: string) => void) | undefined;
  /** Answers a request: `params` without `_meta`. What it throws goes to the caller as an error of the table. */
  readonly onRequest: (method: string, params: JsonObject, context: RequestContext) => Promise<unknown>;
  readonly onNotification?: ((method: string, params: JsonObject) => void) | undefined;
  /** The other side broke the protocol, or a notification handler threw: the owner closes the line with this error. Does not throw. */
  readonly onProtocolError: (error: FairleadError) => void;
  /** A handler threw something that is no FairleadError: a fault to log (`cause` is the original). The caller got INTERNAL. Does not throw. */
  readonly onHandlerFault?: ((error: FairleadError, method: string) => void) | undefined;
  readonly clock?: Clock | undefined;
  readonly limits?: Partial<PeerLimits> | undefined;
}

/** Counts of messages that were dropped, for metrics. */
export interface PeerStats {
  /** Answers to calls that had already settled here (timed out, cancelled): expected now and then. */
  lateResponses: number;
  /** Answers to ids that were never issued: a fault of the other side. */
  unknownResponses: number;
}
