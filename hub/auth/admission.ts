/**
 * How many handshakes a second the hub takes, from one address and from all: a token bucket each, of which the one for all is filled as fast
 * as the hub keeps up (pace.ts).
 *
 * When a fleet comes back at once, those that are too many are told when to come again, each its own turn one after the other, instead of
 * all being slow together or coming again together.
 */
import type { Pace } from './pace.ts';

export interface AdmissionLimits {
  readonly perSecond: number;
  readonly burst: number;
}

interface Bucket {
  tokens: number;
  updatedMs: number;
  /** When the next one that is turned away is to come again. */
  turnMs: number;
}

/** Addresses remembered. A bucket that is full again holds no news and may go; under attack the oldest go. */
const MAX_ADDRESSES = 16_384;
/** Turns are given out no further ahead: not all who were turned away come again, and a hub may be faster soon. */
const MAX_WAIT_MS = 10_000;

/** Of the burst, for a hub that is behind: some operators may always come at once, a fleet may not. */
const SHARE_BEHIND = 0.05;

export interface AdmissionOptions {
  readonly perAddress: AdmissionLimits;
  /** Of all; how many a second is the pace's to say. */
  readonly burst: number;
  readonly pace: Pick<Pace, 'perSecond' | 'isBehind'>;
  /** In milliseconds; never goes back. */
  readonly now: () => number;
  /** In [0, 1); for tests. */
  readonly random?: (() => number) | undefined;
}

export class Admission {
  readonly #options: AdmissionOptions;
  readonly #all: Bucket;
  readonly #addresses = new Map<string, Bucket>();

  constructor(options: AdmissionOptions) {
    this.#options = options;
    this.#all = this.#newBucket(options.burst);
  }

  /** 0 when the handshake may go on, else the milliseconds after which it is to come again. */
  take(address: string): number {
    const { perAddress, burst, pace } = this.#options;
    const key = addressKey(address);
    const bucket = this.#addresses.get(key) ?? this.#newBucket(perAddress.burst);
    this.#addresses.delete(key);
    this.#addresses.set(key, bucket);
    if (this.#addresses.size > MAX_ADDRESSES) this.#forgetOldest();
    const { perSecond } = pace;
    this.#refill(bucket, perAddress);
    // Of what was saved up in quiet times, a hub that is behind has use for little.
    this.#refill(this.#all, { perSecond, burst: pace.isBehind ? burst * SHARE_BEHIND : burst });
    const waitMs = Math.max(this.#waitMs(bucket, perAddress.perSecond), this.#waitMs(this.#all, perSecond));
    if (waitMs > 0) return waitMs;
    bucket.tokens -= 1;
    this.#all.tokens -= 1;
    return 0;
  }

  #newBucket(tokens: number): Bucket {
    const now = this.#options.now();
    return { tokens, updatedMs: now, turnMs: now };
  }

  #refill(bucket: Bucket, { perSecond, burst }: AdmissionLimits): void {
    const now = this.#options.now();
    bucket.tokens = Math.min(Math.max(burst, 1), bucket.tokens + ((now - bucket.updatedMs) / 1000) * perSecond);
    bucket.updatedMs = now;
  }

  #waitMs(bucket: Bucket, perSecond: number): number {
    if (bucket.tokens >= 1) return 0;
    const { now, random = Math.random } = this.#options;
    const soonestMs = now() + ((1 - bucket.tokens) / perSecond) * 1000;
    const turnMs = Math.max(soonestMs, bucket.turnMs);
    bucket.turnMs = Math.min(turnMs + 1000 / perSecond, now() + MAX_WAIT_MS);
    const waitMs = turnMs - now();
    return Math.ceil(waitMs < MAX_WAIT_MS - 1 ? waitMs : MAX_WAIT_MS * (1 - random() / 2));
  }

  #forgetOldest(): void {
    const [oldest] = this.#addresses.keys();
    if (oldest !== undefined) this.#addresses.delete(oldest);
  }
}

/** One bucket an IPv4 address, and one a /64 of IPv6: that much everybody has to choose from. */
function addressKey(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (mapped !== undefined) return mapped;
  if (!address.includes(':')) return address;
  const [head = '', tail] = address.split('::');
  const groups = head === '' ? [] : head.split(':');
  const missing = tail === undefined ? 0 : 8 - groups.length - (tail === '' ? 0 : tail.split(':').length);
  const full = [...groups, ...Array.from({ length: missing }, () => '0'), ...(tail ? tail.split(':') : [])];
  return `${full.slice(0, 4).join(':')}::/64`;
}
