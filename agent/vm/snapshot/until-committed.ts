/**
 * The limits of work that has a point of no return: its caller's until then, and from there on a time of its own, so that nobody who goes
 * away, or whose time is over, leaves it half done.
 *
 *     the caller's ── commit ──▶ its own, FINISH_MS ──▶ over
 *          └── given up, or late: over; `commit` throws
 */
import { FairleadError } from '../../../shared/errors.ts';
import { Deadline } from '../deadline.ts';

/** Far longer than a sound QEMU takes for what is left then. */
const FINISH_MS = 60_000;

export class UntilCommitted implements Disposable {
  /** For all of the work. */
  readonly deadline: Deadline;
  readonly #what: string;
  readonly #caller: Deadline;
  readonly #over = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #isCommitted = false;

  /** `what` begins the message, as in "resuming VM web". */
  constructor(what: string, caller: Deadline) {
    this.#what = what;
    this.#caller = caller;
    this.deadline = new Deadline(what, { signal: this.#over.signal });
    if (caller.signal.aborted) this.#onGivenUp();
    else caller.signal.addEventListener('abort', this.#onGivenUp, { once: true });
  }

  get isCommitted(): boolean {
    return this.#isCommitted;
  }

  /** Right before the step that cannot be taken back. @throws FairleadError CANCELLED or TIMEOUT when the caller has given up. */
  commit(): void {
    this.#caller.signal.throwIfAborted();
    this.#isCommitted = true;
    this.#caller.signal.removeEventListener('abort', this.#onGivenUp);
    const message = `${this.#what} was begun and did not end within ${FINISH_MS} ms`;
    this.#timer = setTimeout(() => this.#over.abort(new FairleadError('TIMEOUT', message)), FINISH_MS);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#caller.signal.removeEventListener('abort', this.#onGivenUp);
    this.deadline[Symbol.dispose]();
  }

  readonly #onGivenUp = (): void => this.#over.abort(this.#caller.signal.reason);
}
