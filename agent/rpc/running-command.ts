/**
 * A command while it runs, and whoever waits for it: the call that gave it, and calls that repeat it meanwhile.
 *
 * The command's signal fires when its time is over, when the agent stops, and when the last one who waits for it cancels. That the line
 * of a caller drops is no reason: the command goes on, within its time, and the repeat that comes over the next line is told how it
 * ended.
 */
import { FairleadError, isFairleadError } from '../../shared/errors.ts';
import type { RequestContext } from '../../shared/jsonrpc/types.ts';

export class RunningCommand {
  readonly method: string;
  readonly paramsDigest: string;
  readonly #controller = new AbortController();
  /** When its time is over, on the clock of `performance`; undefined for never. */
  readonly #endsAt: number | undefined;
  #waiting = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(command: { readonly method: string; readonly paramsDigest: string }, context: RequestContext) {
    this.method = command.method;
    this.paramsDigest = command.paramsDigest;
    const remainingMs = context.remainingMs();
    this.#endsAt = remainingMs === undefined ? undefined : performance.now() + remainingMs;
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** The caller waits for this command until it is disposed of. `decides` is true for the call that gave it. */
  attach({ cancellation }: RequestContext, { decides }: { decides: boolean }): Disposable {
    this.#waiting += 1;
    const onAbort = (): void => {
      this.#waiting -= 1;
      this.#left(cancellation.reason, decides);
    };
    if (cancellation.aborted) onAbort();
    else cancellation.addEventListener('abort', onAbort, { once: true });
    return { [Symbol.dispose]: () => cancellation.removeEventListener('abort', onAbort) };
  }

  abort(reason: FairleadError): void {
    this.#controller.abort(reason);
  }

  /** After it has ended. */
  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }

  #left(reason: unknown, decides: boolean): void {
    const code = isFairleadError(reason) ? reason.code : 'CANCELLED';
    if (code === 'INTERRUPTED') {
      if (decides) this.#keepTime();
      return;
    }
    if (code === 'TIMEOUT' ? decides : this.#waiting === 0) this.#controller.abort(reason);
  }

  /** The deadline went with the line, and still holds. */
  #keepTime(): void {
    if (this.#endsAt === undefined) return;
    const expire = (): void => this.abort(new FairleadError('TIMEOUT', `${this.method} did not end within its deadline`));
    this.#timer = setTimeout(expire, Math.max(0, this.#endsAt - performance.now()));
  }
}
