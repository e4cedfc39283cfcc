/**
 * Whose data goes next: deficit round robin with new and sparse streams first (RFC 8290 §4.1, without its drops).
 *
 *                       activate                    quantum used up
 *     idle ─────────────────────────────▶ fresh ──────────────────────▶ old ⟲ a quantum a round
 *       ▲  (a quantum, one for each round)  │ nothing to send             │ nothing to send
 *       └───────────────────────────────────┴─────────────────────────────┘
 *
 * A stream that gets something to send goes before all that have been sending for longer, for as long as it has something left of its
 * quantum of this round; then it queues behind them. So a key press passes bulk transfers without any label, however soon after the one
 * before it, and no stream can have more than its share. A round is over when each of the old streams has had its turn.
 */
import { SCHEDULER_QUANTUM_BYTES } from './limits.ts';

/** What the scheduler keeps on a stream; lists are linked through the streams themselves, so that waiting costs no memory. */
export interface Schedulable<Self> {
  /** Something may go out: data within credit, or a FIN. */
  readonly sendable: boolean;
  /** `round` is that in which the quantum was given, of which `deficitBytes` are left. */
  schedule: { listed: boolean; deficitBytes: number; round: number; next: Self | undefined };
}

/** Of a stream that no scheduler knows. */
export const UNSCHEDULED = { listed: false, deficitBytes: 0, round: -1, next: undefined } as const;

class List<T extends Schedulable<T>> {
  head: T | undefined;
  size = 0;
  #tail: T | undefined;

  push(item: T): void {
    item.schedule.next = undefined;
    if (this.#tail === undefined) this.head = item;
    else this.#tail.schedule.next = item;
    this.#tail = item;
    this.size += 1;
  }

  shift(): void {
    this.head = this.head?.schedule.next;
    if (this.head === undefined) this.#tail = undefined;
    this.size -= 1;
  }
}

export class Scheduler<T extends Schedulable<T>> {
  /** Bytes that a stream may send in its turn; where messages are larger, one message, since odd pieces cost more at every hop. */
  quantumBytes: number = SCHEDULER_QUANTUM_BYTES;
  #fresh = new List<T>();
  #old = new List<T>();
  #round = 0;
  /** Old streams that have not had their turn in this round. */
  #leftInRound = 0;

  /** The stream may have become sendable. */
  activate(stream: T): void {
    const { schedule } = stream;
    if (schedule.listed) return;
    schedule.listed = true;
    if (this.#old.size === 0) this.#beginRound();
    if (schedule.round !== this.#round) this.#giveQuantum(stream);
    if (schedule.deficitBytes > 0) this.#fresh.push(stream);
    else this.#queue(stream);
  }

  /** Whose turn it is; the caller then says by `charge` how much it sent. */
  next(): T | undefined {
    for (;;) {
      const isFresh = this.#fresh.head !== undefined;
      const list = isFresh ? this.#fresh : this.#old;
      const stream = list.head;
      if (stream === undefined) return undefined;
      if (stream.sendable && stream.schedule.deficitBytes > 0) return stream;
      list.shift();
      if (!isFresh) stream.schedule.round = this.#round;
      if (stream.sendable) this.#queue(stream);
      else stream.schedule.listed = false;
      if (!isFresh && --this.#leftInRound <= 0) this.#beginRound();
    }
  }

  charge(stream: T, bytes: number): void {
    stream.schedule.deficitBytes -= bytes;
  }

  /** Behind the old ones, with what it may send when its turn comes. */
  #queue(stream: T): void {
    stream.schedule.deficitBytes += this.quantumBytes;
    this.#old.push(stream);
  }

  #giveQuantum({ schedule }: T): void {
    schedule.round = this.#round;
    schedule.deficitBytes = this.quantumBytes;
  }

  #beginRound(): void {
    this.#round += 1;
    this.#leftInRound = this.#old.size;
  }
}
