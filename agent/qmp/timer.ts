/** The longest delay of a timer (2^31 − 1 ms, 24 days): Node fires a longer one at once. */
const MAX_TIMER_MS = 2_147_483_647;

/** A delay that `setTimeout` honours; Infinity means the longest there is. */
export function clampTimerMs(delayMs: number): number {
  return Math.min(delayMs, MAX_TIMER_MS);
}
