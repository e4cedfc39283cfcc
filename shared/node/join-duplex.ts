/** Joins two Duplex streams as if they were one connection. */
import { Socket } from 'node:net';
import type { Duplex, Readable, Writable } from 'node:stream';
import { finished } from 'node:stream/promises';

export interface JoinOptions {
  /**
   * False when `b` cannot end one direction alone: the end of `a` is then held back until `b` has ended, since passing it on would
   * lose what `b` still has to send.
   */
  readonly halfClose?: boolean;
  /** How long `b` has to take what `a` had said to its end, once `a` has failed, in milliseconds; without it no time. */
  readonly lingerMs?: number;
  /** Aborting destroys both with its reason. */
  readonly signal?: AbortSignal;
}

/**
 * Pipes both ways; the end of one side is the end of the other's writing. Resolves when all four ends have come. When either fails
 * or is destroyed early, both are destroyed with that error and it rejects; upon a failure a connection of TCP is reset, so that its peer
 * does not take the end for a good one. What `b`, the side that was called, has said to its end is still passed on before that, and what `a`
 * has, for `lingerMs`.
 */
export async function joinDuplex(a: Duplex, b: Duplex, options: JoinOptions = {}): Promise<void> {
  const { halfClose = true, lingerMs, signal } = options;
  pump(a, b);
  pump(b, a);
  b.once('end', () => a.end());
  a.once('end', () => {
    if (halfClose || b.readableEnded) b.end();
    else b.once('end', () => b.end());
  });
  try {
    await Promise.all([finished(a, { signal }), finished(b, { signal })]);
  } catch (thrown) {
    const error = signal?.aborted === true && signal.reason instanceof Error ? signal.reason : asError(thrown);
    // Whichever side has not failed hears of it; its own 'error' event has no other listener then.
    for (const side of [a, b]) side.on('error', () => {});
    if (b.readableEnded && !a.destroyed) await finished(a, { readable: false, signal }).catch(() => {});
    if (a.readableEnded && !b.destroyed && lingerMs !== undefined) await lastWords(b, lingerMs, signal);
    const isFault = signal?.aborted === true || a.errored !== null || b.errored !== null;
    for (const side of [a, b]) {
      fail(side, error, isFault && !(b.readableEnded && side === a));
      if (passesOn(side)) side.lost(error);
    }
    throw error;
  }
}

/** Nobody hears what it answers, so that its half can be closed in any case. */
async function lastWords(side: Duplex, atMostMs: number, signal: AbortSignal | undefined): Promise<void> {
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(), atMostMs);
  side.end();
  const given = signal === undefined ? late.signal : AbortSignal.any([signal, late.signal]);
  await finished(side, { readable: false, signal: given }).catch(() => {});
  clearTimeout(timer);
}

function fail(side: Duplex, error: Error, byReset: boolean): void {
  // Only TCP has addresses, and only TCP can be reset.
  if (byReset && side instanceof Socket && side.remoteAddress !== undefined && !side.destroyed) side.resetAndDestroy();
  else side.destroy(error);
}

/** A stream that gives its sender no more to send before it is told what has been passed on. */
interface PassesOn {
  passOn(): void;
  consumed(bytes: number): void;
  /** What was taken will not all be passed on: its sender is told so, also where both ends were said and the stream is closed already. */
  lost(error: Error): void;
}

/** `pipe`, but for two things: the chunks that arrive in one turn go out in one call to the kernel, and a sender has credit for what is gone. */
function pump(from: Readable, to: Writable): void {
  const credited = passesOn(from) ? from : undefined;
  credited?.passOn();
  let corked = false;
  const uncork = (): void => {
    corked = false;
    to.uncork();
  };
  from.on('data', (chunk: Uint8Array) => {
    if (!corked) {
      corked = true;
      to.cork();
      process.nextTick(uncork);
    }
    const gone = credited && ((error?: Error | null) => void (error == null && credited.consumed(chunk.length)));
    if (!to.write(chunk, gone)) from.pause();
  });
  to.on('drain', () => from.resume());
}

function passesOn(stream: Readable): stream is Readable & PassesOn {
  return 'passOn' in stream && 'consumed' in stream;
}

function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}
