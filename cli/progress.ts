/**
 * How far a transfer is, on one line of a terminal that is written over; nothing at all anywhere else.
 *
 *     web:/var/log/big   41% 3.3 MiB of 8.0 MiB  2.1 MiB/s  2s
 */
import { isTerminal } from './guest-text.ts';

const REDRAW_MS = 100;
const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const;
const ESCAPE = String.fromCharCode(0x1b);
const CLEAR_LINE = `\r${ESCAPE}[K`;

export interface ProgressOptions {
  readonly stderr: NodeJS.WritableStream;
  readonly label: string;
  /** Where it is known. */
  readonly totalBytes: number | undefined;
  /** Milliseconds from an arbitrary start. */
  readonly now?: () => number;
}

export class Progress implements Disposable {
  readonly #options: ProgressOptions;
  readonly #isShown: boolean;
  readonly #now: () => number;
  readonly #startedAt: number;
  #bytes = 0;
  #drawnAt = Number.NEGATIVE_INFINITY;

  constructor(options: ProgressOptions) {
    this.#options = options;
    this.#isShown = isTerminal(options.stderr);
    this.#now = options.now ?? (() => performance.now());
    this.#startedAt = this.#now();
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** The chunks as they are, counted as they pass. */
  async *count(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
    for await (const chunk of chunks) {
      yield chunk;
      this.#bytes += chunk.length;
      this.#draw();
    }
  }

  [Symbol.dispose](): void {
    if (this.#isShown) this.#options.stderr.write(CLEAR_LINE);
  }

  #draw(): void {
    const now = this.#now();
    if (!this.#isShown || now - this.#drawnAt < REDRAW_MS) return;
    this.#drawnAt = now;
    const { label, totalBytes, stderr } = this.#options;
    stderr.write(`${CLEAR_LINE}${progressText({ label, totalBytes, bytes: this.#bytes, elapsedMs: now - this.#startedAt })}`);
  }
}

export function progressText(at: {
  readonly label: string;
  readonly bytes: number;
  readonly totalBytes: number | undefined;
  readonly elapsedMs: number;
}): string {
  const { label, bytes, totalBytes, elapsedMs } = at;
  const perSecond = elapsedMs > 0 ? (bytes / elapsedMs) * 1000 : 0;
  const rate = `${sizeText(perSecond)}/s`;
  if (totalBytes === undefined || totalBytes === 0) return `${label}  ${sizeText(bytes)}  ${rate}`;
  const percent = Math.min(100, Math.floor((bytes / totalBytes) * 100));
  const left = perSecond > 0 ? `  ${Math.ceil(Math.max(0, totalBytes - bytes) / perSecond)}s` : '';
  return `${label}  ${percent}%  ${sizeText(bytes)} of ${sizeText(totalBytes)}  ${rate}${left}`;
}

export function sizeText(bytes: number): string {
  const step = Math.min(UNITS.length - 1, bytes < 1 ? 0 : Math.floor(Math.log2(bytes) / 10));
  const value = bytes / 1024 ** step;
  return `${step === 0 ? Math.round(value) : value.toFixed(1)} ${UNITS[step]}`;
}
