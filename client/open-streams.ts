/** The streams of one connection that are open, so that what was written to their end can arrive before it is closed. */
import type { Duplex } from 'node:stream';
import { finished } from 'node:stream/promises';
import { pause } from './pause.ts';

export class OpenStreams {
  readonly #streams = new Set<Duplex>();

  add(stream: Duplex): Duplex {
    this.#streams.add(stream);
    return stream.once('close', () => this.#streams.delete(stream));
  }

  /** Resolves when the other ends have consumed all of what was ended, those streams have failed, or `atMostMs` are over. */
  async delivered(atMostMs: number): Promise<void> {
    const ending = [...this.#streams].filter((stream) => stream.writableEnded && !stream.writableFinished);
    if (ending.length === 0) return;
    const settled = new AbortController();
    const all = Promise.allSettled(ending.map((stream) => finished(stream, { readable: false })));
    await Promise.race([all, pause(atMostMs, settled.signal).catch(() => {})]);
    settled.abort();
  }
}
