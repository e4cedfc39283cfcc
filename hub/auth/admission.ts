/**
 * How many handshakes a second the hub takes, from one address and from all: a token bucket each. When a fleet comes back at once, those
 * that are too many are told when to try again, instead of all being slow together.
 */
export interface AdmissionLimits {
  readonly perSecond: number;
  readonly burst: number;
}

interface Bucket {
  tokens: number;
  updatedMs: number;
}

/** Addresses remembered. A bucket that is full again holds no news and may go; under attack the oldest go. */
const MAX_ADDRESSES = 16_384;

export class Admission {
  readonly #global: AdmissionLimits;
  readonly #perAddress: AdmissionLimits;
  readonly #now: () => number;
  readonly #all: Bucket;
  readonly #addresses = new Map<string, Bucket>();

  /** `now` is in milliseconds and never goes back. */
  constructor(options: { readonly global: AdmissionLimits; readonly perAddress: AdmissionLimits; readonly now: () => number }) {
    this.#global = options.global;
    this.#perAddress = options.perAddress;
    this.#now = options.now;
    this.#all = { tokens: options.global.burst, updatedMs: options.now() };
  }

  /** 0 when the handshake may go on, else the milliseconds until the next one may. */
  take(address: string): number {
    const key = addressKey(address);
    const bucket = this.#addresses.get(key) ?? { tokens: this.#perAddress.burst, updatedMs: this.#now() };
    this.#addresses.delete(key);
    this.#addresses.set(key, bucket);
    if (this.#addresses.size > MAX_ADDRESSES) this.#forgetOldest();
    const waitMs = Math.max(this.#refill(bucket, this.#perAddress), this.#refill(this.#all, this.#global));
    if (waitMs > 0) return waitMs;
    bucket.tokens -= 1;
    this.#all.tokens -= 1;
    return 0;
  }

  #refill(bucket: Bucket, limits: AdmissionLimits): number {
    const now = this.#now();
    bucket.tokens = Math.min(limits.burst, bucket.tokens + ((now - bucket.updatedMs) / 1000) * limits.perSecond);
    bucket.updatedMs = now;
    return bucket.tokens >= 1 ? 0 : Math.ceil(((1 - bucket.tokens) / limits.perSecond) * 1000);
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
