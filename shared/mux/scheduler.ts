/**
 * Whose data goes next: deficit round robin with new and sparse streams first (RFC 8290 §4.1, without its drops).
 *
 * A stream that gets something to send is put on the list of new ones with one quantum; when that is used up it queues behind the
 * old ones. So a key press passes bulk transfers without any label, and no stream can have more than its share for long.
 */
import { SCHEDULER_QUANTUM_BYTES } from './limits.ts';

/** What the scheduler keeps on a stream; lists are linked through the streams themselves, so that waiting costs no memory. */
export interface Schedulable<Self> {
  /** Something may go out: data within credit, or a FIN. */
  readonly sendable: boolean;
  schedule: { listed: boolean; deficitBytes: number; next: Self | undefined };
}

class List<T extends Schedulable<T>> {
  head: T | undefined;
  #tail: T | undefined;

  push(item: T): void {
    item.schedule.next = undefined;
    if (this.#tail === undefined) this.head = item;
    else this.#tail.schedule.next = item;
    this.#tail = item;
  }

  shift(): void {
    this.head = this.head?.schedule.next;
    if (this.head === undefined) this.#tail = undefined;
  }
}

export class Scheduler<T extends Schedulable<T>> {
  #fresh = new List<T>();
  #old = new List<T>();

  /** The stream may have become sendable. */
  activate(stream: T): void {
    if (stream.schedule.listed) return;
    stream.schedule.listed = true;
    stream.schedule.deficitBytes = SCHEDULER_QUANTUM_BYTES;
    this.#fresh.push(stream);
  }

  /** Whose turn it is; the caller then says by `charge` how much it sent. */
  next(): T | undefined {
    for (;;) {
      const list = this.#fresh.head === undefined ? this.#old : this.#fresh;
      const stream = list.head;
      if (stream === undefined) return undefined;
      if (stream.sendable && stream.schedule.deficitBytes > 0) return stream;
      list.shift();
      if (stream.sendable) {
        stream.schedule.deficitBytes += SCHEDULER_QUANTUM_BYTES;
        this.#old.push(stream);
      } else if (list === this.#fresh && this.#old.head !== undefined) {
        // One turn among the old ones before it counts as new again: else a stream that always sends a little would starve them.
        this.#old.push(stream);
      } else {
        stream.schedule.listed = false;
      }
    }
  }

  charge(stream: T, bytes: number): void {
    stream.schedule.deficitBytes -= bytes;
  }
}
