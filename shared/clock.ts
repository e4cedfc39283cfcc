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
  /** Never early; of the system's clock, a wait of a second and more may last up to `COARSE_MS` longer. */
  setTimeout(callback: () => void, delayMs: number): Timer;
}

/**
 * Node keeps a list of timers for each length in milliseconds that is waited. Ten thousand heartbeats, each of a random length, would be as many
 * lists, and to find one's place among them cost more than the check of a host's signature.
 */
const COARSE_MS = 64;
/** The longest delay that a timer takes (24 days): Node fires a longer one at once. */
const MAX_DELAY_MS = 2_147_483_647;

export const systemClock: Clock = {
  now: () => performance.now(),
  setTimeout(callback, delayMs) {
    const timer = setTimeout(
      callback,
      delayMs < 1000 ? delayMs : Math.min(MAX_DELAY_MS, Math.ceil(delayMs / COARSE_MS) * COARSE_MS),
    );
    return { cancel: () => clearTimeout(timer) };
  },
};
