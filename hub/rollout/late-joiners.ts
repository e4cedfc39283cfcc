/** Hosts that have come to match a rollout's selector since it was planned. Looked up now and then, and answered at once with what is known. */
import type { Clock } from '../../shared/clock.ts';
import type { RolloutSpec } from '../../shared/protocol/rollout-spec.ts';
import type { Store } from '../store/store.ts';
import type { Candidate } from './core/host-order.ts';
import { selectHosts } from './selection.ts';

const LOOK_EVERY_MS = 2000;

export interface LateJoinersOptions {
  readonly store: Store;
  readonly spec: RolloutSpec;
  readonly clock: Clock;
  /** In no rollout's hands. */
  readonly isFree: (host: string) => boolean;
}

export class LateJoiners {
  readonly #options: LateJoinersOptions;
  #lookedAtMs = Number.NEGATIVE_INFINITY;
  #found: readonly Candidate[] = [];

  constructor(options: LateJoinersOptions) {
    this.#options = options;
  }

  look(): readonly Candidate[] {
    const { store, spec, clock, isFree } = this.#options;
    if (clock.now() - this.#lookedAtMs >= LOOK_EVERY_MS) {
      this.#lookedAtMs = clock.now();
      // A host that is named and was removed since joins nothing.
      selectHosts(store, spec.selector).then(
        (found) => {
          this.#found = found;
        },
        () => {},
      );
    }
    return this.#found.filter(({ host }) => isFree(host));
  }
}
