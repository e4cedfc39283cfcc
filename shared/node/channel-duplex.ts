/** Channels as Node streams (being written; the signatures are final). */
import type { Duplex } from 'node:stream';
import type { MuxChannel } from '../mux/channel.ts';

/** `allowHalfOpen`; destroy() resets the channel, a reset destroys the Duplex with its error. */
export declare function channelDuplex(channel: MuxChannel): Duplex;

/** Pipe both ways with half-close. Resolves when both directions ended; on any failure both are destroyed and it rejects. */
export declare function joinDuplex(a: Duplex, b: Duplex, options?: { signal?: AbortSignal; halfClose?: boolean }): Promise<void>;
