/**
 * Time as an argument: whatever waits takes a Clock, so that tests run it on virtual time.
 *
 * `now` is monotonic milliseconds from an arbitrary start; it never goes back and says nothing about the date.
 */
export interface Timer {
  /** After this the callback does not run. Safe to call twice, or after it ran. */
  cancel(): void;
}

export interface Clock {
  now(): number;
  setTimeout(callback: () => void, delayMs: number): Timer;
}

export const systemClock: Clock = {
  now: () => performance.now(),
  setTimeout(callback, delayMs) {
    const timer = setTimeout(callback, delayMs);
    return { cancel: () => clearTimeout(timer) };
  },
};
