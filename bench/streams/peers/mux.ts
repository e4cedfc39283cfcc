/**
 * What a stream multiplexer is to the benchmark: one connection, on which one side opens streams and the other takes them.
 *
 * Each peer has the settings that its documentation recommends for throughput, and runs on bare TCP without encryption, which costs less
 * than the WebSocket that ours has to use.
 */
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';

export interface MuxEnds {
  /** Resolves with the way to open a stream. */
  opener(socket: Socket): Promise<() => Promise<Duplex>>;
  /** Calls `take` with each stream that the other side opens. */
  taker(socket: Socket, take: (stream: Duplex) => void): Promise<void>;
}

export interface Peer {
  /** As in the report. */
  readonly name: string;
  /** Version and settings, for the report. */
  readonly settings: string;
  load(): Promise<MuxEnds>;
}
