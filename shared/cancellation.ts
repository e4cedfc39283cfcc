/**
 * Cancelling what mostly ends before anybody cancels it. An AbortController costs little when it is made, but its signal is an EventTarget,
 * and a listener there costs more than all else that a small call does on its way through a process. A CancelSource keeps a list of
 * functions, and makes the signal for whoever asks for one.
 */

/** What a callee needs to hear of a cancellation. Every AbortSignal is one. */
export interface Cancellation {
  readonly aborted: boolean;
  /** Why, once `aborted`. */
  readonly reason: unknown;
  addEventListener(type: 'abort', listener: () => void, options?: { once?: boolean }): void;
  removeEventListener(type: 'abort', listener: () => void): void;
}

export class CancelSource implements Cancellation {
  #listeners: (() => void)[] = [];
  #controller: AbortController | undefined;
  #reason: unknown;
  #aborted = false;

  get aborted(): boolean {
    return this.#aborted;
  }

  get reason(): unknown {
    return this.#reason;
  }

  /** The same as an AbortSignal, for what takes nothing less. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#aborted) this.#controller.abort(this.#reason);
    }
    return this.#controller.signal;
  }

  /** The first reason counts. A listener that throws keeps the others from nothing: it throws to the event loop, as with an AbortSignal. */
  abort(reason: unknown): void {
    if (this.#aborted) return;
    this.#aborted = true;
    this.#reason = reason;
    const listeners = this.#listeners;
    this.#listeners = [];
    this.#controller?.abort(reason);
    for (const listener of listeners) callApart(listener);
  }

  /** Each listener is called once, as there is one `abort`. */
  addEventListener(_type: 'abort', listener: () => void): void {
    if (!this.#aborted) this.#listeners.push(listener);
  }

  removeEventListener(_type: 'abort', listener: () => void): void {
    const index = this.#listeners.indexOf(listener);
    if (index >= 0) this.#listeners.splice(index, 1);
  }
}

function callApart(listener: () => void): void {
  try {
    listener();
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}
