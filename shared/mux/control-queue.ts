/**
 * Class 0: everything that goes out before data, in this order: the FIFO (HELLO, OPEN…, RESET, GOAWAY), PONG and PING, WINDOW.
 *
 * Each kind is bounded. WINDOW waits as a mark on its stream and is written when it goes out, so that ten grants make one frame; a
 * PING gets its timestamp at that moment as well.
 */
import { FairleadError } from '../errors.ts';
import { MAX_PENDING_PONGS, WIRE } from './limits.ts';
import { writePing, writePong } from './payload.ts';
import type { MuxStream } from './stream.ts';

const WINDOW_BYTES = WIRE.headerBytes + 16;

export interface ControlHooks {
  /** For a PING that goes out now. */
  timestamp(): number;
  /** A WINDOW goes out, which may have one as its answer. */
  onWindow(): void;
}

export class ControlQueue {
  readonly #maxBytes: number;
  readonly #hooks: ControlHooks;
  #frames: Uint8Array[] = [];
  #frameBytes = 0;
  #pongs: Uint8Array[] = [];
  #pingDue = false;
  #windows: MuxStream[] = [];

  constructor(maxBytes: number, hooks: ControlHooks) {
    this.#maxBytes = maxBytes;
    this.#hooks = hooks;
  }

  get isEmpty(): boolean {
    return this.#frames.length === 0 && this.#pongs.length === 0 && !this.#pingDue && this.#windows.length === 0;
  }

  /** Throws LIMIT_EXCEEDED when too much waits: the other side makes us answer and does not read. */
  push(frame: Uint8Array): void {
    if (this.#frameBytes + frame.length > this.#maxBytes) {
      throw new FairleadError(
        'LIMIT_EXCEEDED',
        `more than ${this.#maxBytes} bytes of control frames wait for a peer that does not read`,
      );
    }
    this.#frames.push(frame);
    this.#frameBytes += frame.length;
  }

  pushPong(ping: Uint8Array): void {
    if (this.#pongs.length >= MAX_PENDING_PONGS) this.#pongs.shift();
    this.#pongs.push(writePong(ping));
  }

  pushPing(): void {
    this.#pingDue = true;
  }

  pushWindow(stream: MuxStream): void {
    if (stream.windowQueued) return;
    stream.windowQueued = true;
    this.#windows.push(stream);
  }

  /** Moves whole frames to `parts` while they fit; returns their bytes. */
  pull(parts: Uint8Array[], maxBytes: number): number {
    if (this.isEmpty) return 0;
    let bytes = 0;
    const take = (frame: Uint8Array): boolean => {
      if (bytes + frame.length > maxBytes) return false;
      parts.push(frame);
      bytes += frame.length;
      return true;
    };
    const taken = this.#frames.findIndex((frame) => !take(frame));
    this.#frames = taken === -1 ? [] : this.#frames.slice(taken);
    this.#frameBytes = this.#frames.reduce((sum, frame) => sum + frame.length, 0);
    while (this.#pongs[0] !== undefined && take(this.#pongs[0])) this.#pongs.shift();
    if (this.#pingDue && take(writePing(this.#hooks.timestamp()))) this.#pingDue = false;
    return bytes + this.#pullWindows(parts, maxBytes - bytes);
  }

  #pullWindows(parts: Uint8Array[], maxBytes: number): number {
    let bytes = 0;
    let done = 0;
    for (const stream of this.#windows) {
      if (bytes + WINDOW_BYTES > maxBytes) break;
      // Before it writes: what that brings about may make the next one due.
      stream.windowQueued = false;
      done += 1;
      const frame = stream.takeWindow();
      if (frame === undefined) continue;
      parts.push(frame);
      bytes += frame.length;
      this.#hooks.onWindow();
    }
    this.#windows = done === this.#windows.length ? [] : this.#windows.slice(done);
    return bytes;
  }
}
