/** How many hosts have come how far: of the whole rollout, of each zone and of each wave. */
import type { FailureClass } from '../../../shared/protocol/rollout-spec.ts';

export class Tally {
  /** Hosts that belong to it. */
  planned = 0;
  /** On their way forward. */
  inFlight = 0;
  done = 0;
  /** Skipped by somebody, or passed over. */
  skipped = 0;
  readonly #failures = new Map<FailureClass, number>();
  #failed = 0;

  get failed(): number {
    return this.#failed;
  }

  /** Hosts that were tried and have ended. */
  get executed(): number {
    return this.done + this.#failed;
  }

  get settled(): number {
    return this.executed + this.skipped;
  }

  failedAs(failure: FailureClass): number {
    return this.#failures.get(failure) ?? 0;
  }

  addFailure(failure: FailureClass, count: 1 | -1): void {
    this.#failed += count;
    this.#failures.set(failure, this.failedAs(failure) + count);
  }
}

export class Tallies {
  readonly all = new Tally();
  readonly zones = new Map<string, Tally>();
  readonly waves = new Map<number, Tally>();

  zone(zone: string): Tally {
    return insert(this.zones, zone);
  }

  wave(wave: number): Tally {
    return insert(this.waves, wave);
  }

  /** The three that a host counts in. */
  of({ zone, wave }: { readonly zone: string; readonly wave: number }): readonly Tally[] {
    return [this.all, insert(this.zones, zone), insert(this.waves, wave)];
  }
}

function insert<K>(tallies: Map<K, Tally>, key: K): Tally {
  const known = tallies.get(key);
  if (known !== undefined) return known;
  const tally = new Tally();
  tallies.set(key, tally);
  return tally;
}
