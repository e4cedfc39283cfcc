/**
 * How much may wait in the socket, and in the kernel where that can be told. What is handed over cannot be overtaken any more, so a control call waits behind all of it; too
 * little, and a fast line runs dry between two turns of the event loop. Hence 2 ms of the line's measured rate, at least 32 KiB.
 */
const MIN_BYTES = 32 * 1024;
const MAX_BYTES = 1024 * 1024;
const HORIZON_MS = 2;
/** Long enough that a kernel buffer filled at once does not look like a fast line for more than a sample or two. */
const SAMPLE_MS = 10;

/** Of a sample, in what is known already: what was let through in a burst is no rate of the line. */
const GAIN = 1 / 4;

export class Pacer {
  #bytesPerMs = 0;
  #sampleAt: number | undefined;
  #sampleTaken = 0;
  #wasFull = false;

  /** Bytes that may wait in the socket. */
  get budgetBytes(): number {
    return Math.min(MAX_BYTES, Math.max(MIN_BYTES, Math.floor(this.#bytesPerMs * HORIZON_MS)));
  }

  /** `takenBytes`: all that ever left the socket; `full`: something waits there. `now` in monotonic milliseconds. */
  observe(now: number, takenBytes: number, full: boolean): void {
    if (full) this.#wasFull = true;
    if (this.#sampleAt === undefined) {
      this.#sampleAt = now;
      this.#sampleTaken = takenBytes;
      return;
    }
    const elapsedMs = now - this.#sampleAt;
    if (elapsedMs < SAMPLE_MS) return;
    const rate = (takenBytes - this.#sampleTaken) / elapsedMs;
    // With nothing waiting the sender sets the pace: the sample is then only a lower bound of what the line can do.
    if (this.#wasFull) this.#bytesPerMs += (rate - this.#bytesPerMs) * GAIN;
    else this.#bytesPerMs = Math.max(this.#bytesPerMs, rate);
    this.#sampleAt = now;
    this.#sampleTaken = takenBytes;
    this.#wasFull = full;
  }
}
