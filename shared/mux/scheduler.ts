/**
 * Whose data goes next: deficit round robin with new and sparse streams first (RFC 8290 §4.1, without its drops).
 *
 *                       activate            more waits            quantum used up
 *     idle ──────────────────────────▶ sparse ─────▶ fresh ──────────────────────▶ old ⟲ a quantum a round
 *       ▲ (a quantum, one for each round) │            │ nothing to send             │ nothing to send
 *       └─────────────────────────────────┴────────────┴─────────────────────────────┘
 *
 * A stream that gets something to send goes before all that have been sending for longer, for as long as it has something left of its
 * quantum of this round; then it queues behind them. So a key press passes bulk transfers without any label, however soon after the one
 * before it, and no stream can have more than its share. A round is over when each of the old streams has had its turn.
 *
 * Sparse is who has no more to send than SPARSE_BYTES: it goes before the others that are new, and the line may let it go where others
 * wait until less is on its way.
 */
import { SCHEDULER_QUANTUM_BYTES } from './limits.ts';

/** What a key press, its echo or a small answer has: less than a packet. */
const SPARSE_BYTES = 1024;

/** What the scheduler keeps on a stream; lists are linked through the streams themselves, so that waiting costs no memory. */
export interface Schedulable<Self> {
  /** Something may go out: data within credit, or a FIN. */
  readonly sendable: boolean;
  /** What waits to go out, within credit or not. */
  readonly queuedBytes: number;
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
  #sparse = new List<T>();
  #fresh = new List<T>();
  #old = new List<T>();
  #round = 0;
  /** Old streams that have not had their turn in this round. */
  #leftInRound = 0;

  /** Nobody waits for a turn. */
  get isEmpty(): boolean {
    return this.#sparse.head === undefined && this.#fresh.head === undefined && this.#old.head === undefined;
  }

  /** At most one waits for a turn. */
  get isLast(): boolean {
    return this.#sparse.size + this.#fresh.size + this.#old.size <= 1;
  }

  /** The stream may have become sendable. */
  activate(stream: T): void {
    const { schedule } = stream;
    if (schedule.listed) return;
    if (this.isEmpty) this.#beginRound();
    schedule.listed = true;
    this.#giveQuanta(stream);
    if (schedule.deficitBytes <= 0) this.#queue(stream);
    else if (isSparse(stream)) this.#sparse.push(stream);
    else this.#fresh.push(stream);
  }

  /** Whose turn it is; the caller then says by `charge` how much it sent. */
  next(): T | undefined {
    return this.nextSparse() ?? this.#nextFresh() ?? this.#nextOld();
  }

  /** The same among those that have little to send. */
  nextSparse(): T | undefined {
    for (let stream = this.#sparse.head; stream !== undefined; stream = this.#sparse.head) {
      if (isReady(stream) && isSparse(stream)) return stream;
      this.#sparse.shift();
      if (isReady(stream)) this.#fresh.push(stream);
      else this.#leave(stream);
    }
    return undefined;
  }

  #nextFresh(): T | undefined {
    for (let stream = this.#fresh.head; stream !== undefined; stream = this.#fresh.head) {
      if (isReady(stream)) return stream;
      this.#fresh.shift();
      this.#leave(stream);
    }
    return undefined;
  }

  #nextOld(): T | undefined {
    for (let stream = this.#old.head; stream !== undefined; stream = this.#old.head) {
      if (isReady(stream)) return stream;
      this.#old.shift();
      stream.schedule.round = this.#round;
      this.#leave(stream);
      if (--this.#leftInRound <= 0) this.#beginRound();
    }
    return undefined;
  }

  charge(stream: T, bytes: number): void {
    stream.schedule.deficitBytes -= bytes;
  }

  /** The list that it was the first of. */
  #leave(stream: T): void {
    if (stream.sendable) this.#queue(stream);
    else stream.schedule.listed = false;
  }

  /** Behind the old ones, with what it may send when its turn comes. */
  #queue(stream: T): void {
    stream.schedule.deficitBytes += this.quantumBytes;
    this.#old.push(stream);
  }

  /** One for each round since its last, which pay for what it sent beyond that one's; no more than one is ever saved up. */
  #giveQuanta({ schedule }: T): void {
    const rounds = this.#round - schedule.round;
    schedule.round = this.#round;
    schedule.deficitBytes = Math.min(this.quantumBytes, schedule.deficitBytes + rounds * this.quantumBytes);
  }

  #beginRound(): void {
    this.#round += 1;
    this.#leftInRound = this.#old.size;
  }
}

function isSparse<T extends Schedulable<T>>({ queuedBytes }: T): boolean {
  return queuedBytes <= SPARSE_BYTES;
}

/** It has something to send, and may. */
function isReady<T extends Schedulable<T>>({ sendable, schedule }: T): boolean {
  return sendable && schedule.deficitBytes > 0;
}
