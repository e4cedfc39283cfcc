/** `_meta.fence` of a command: of which driver it is, so that a host can refuse one that has been replaced. */
import * as v from 'valibot';

export const Fence = v.strictObject({
  /** What is driven, such as `rollout/r1`. */
  scope: v.pipe(v.string(), v.minLength(1), v.maxLength(128)),
  /** Rises each time it is taken over. */
  epoch: v.pipe(v.number(), v.safeInteger(), v.minValue(1)),
});
export type Fence = v.InferOutput<typeof Fence>;
