/**
 * What a stream multiplexer is to the benchmark: one connection, on which one side opens streams and the other takes them.
 *
 * Each peer has the settings that its documentation recommends for throughput, and runs on bare TCP, without encryption wherever it can, which
 * costs less than the WebSocket that ours has to use.
 */
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Connections } from './connections.ts';

export interface MuxEnds {
  /** Resolves with the way to open a stream. `later` has the connections after `socket`, for a peer that goes on. */
  opener(socket: Socket, later: Connections): Promise<() => Promise<Duplex>>;
  /** Calls `take` with each stream that the other side opens. `later` is as above. */
  taker(socket: Socket, take: (stream: Duplex) => void, later: Connections): Promise<void>;
}

export interface Peer {
  /** As in the report. */
  readonly name: string;
  /** Version and settings, for the report. */
  readonly settings: string;
  /** Its streams go on over another connection when theirs is lost; the streams of any other end with it, and so does its part. */
  readonly goesOn?: true;
  load(): Promise<MuxEnds>;
}
