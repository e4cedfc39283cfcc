/**
 * The open streams into one guest. QEMU leaves the host's end of a vsock connection open when the guest is reset, so the agent must know
 * them all and end them itself.
 */
import type { Duplex } from 'node:stream';
import type { FairleadError } from '../../shared/errors.ts';
import { endsUnless } from '../streams/true-end.ts';

export class StreamRegistry {
  readonly #whyOver: () => FairleadError | undefined;
  readonly #streams = new Set<Duplex>();
  /** How many of them lead to which port of the guest. */
  readonly #toPort = new Map<number, number>();
  #resets = 0;
  #opening = 0;

  /** `whyOver`: why no stream can lead into the guest any more, if so. */
  constructor(whyOver: () => FairleadError | undefined = () => undefined) {
    this.#whyOver = whyOver;
  }

  get size(): number {
    return this.#streams.size;
  }

  /** Rises with each reset: a connection begun before one leads into a guest that is no more. */
  get resets(): number {
    return this.#resets;
  }

  /** A place for a stream that is being opened, until disposed of; undefined when so many are open or being opened. */
  reserve(max: number): Disposable | undefined {
    if (this.#streams.size + this.#opening >= max) return undefined;
    this.#opening++;
    return { [Symbol.dispose]: () => void this.#opening-- };
  }

  /** Open streams that lead to this port of the guest. */
  toPort(port: number): number {
    return this.#toPort.get(port) ?? 0;
  }

  /**
   * Kept until the stream is closed. Its end counts for the guest's only while there is a guest. `port`: of the guest, where the guest was
   * dialled.
   */
  add(stream: Duplex, port?: number): void {
    if (stream.destroyed) return;
    this.#streams.add(stream);
    if (port !== undefined) this.#count(port, 1);
    endsUnless(stream, this.#whyOver);
    stream.once('close', () => {
      this.#streams.delete(stream);
      if (port !== undefined) this.#count(port, -1);
    });
  }

  reset(reason: FairleadError): void {
    this.#resets++;
    for (const stream of this.#streams) {
      // Whoever uses the stream learns of it by 'error'; one that nobody uses yet must not take the agent down.
      if (stream.listenerCount('error') === 0) stream.on('error', () => {});
      stream.destroy(reason);
    }
    this.#streams.clear();
  }

  #count(port: number, change: 1 | -1): void {
    const count = this.toPort(port) + change;
    if (count === 0) this.#toPort.delete(port);
    else this.#toPort.set(port, count);
  }
}
