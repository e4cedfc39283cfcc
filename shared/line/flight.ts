/**
 * How much data may be on its way on this hop: sent, and not read yet by the program at the other end.
 *
 * Bytes that wait in the kernels of both sides cannot be overtaken by a call or a key press, and a kernel takes megabytes. So the hop is
 * measured: a PING follows some data, and its PONG says that all before it was read. What is on its way beyond the line's own round trip
 * waits somewhere, be it for the line, a proxy or a program that is busy, and is held to what passes in TARGET_MS.
 *
 *     opening ── twice as much each round trip, until one takes TARGET_MS longer than the shortest ──▶ steady ── REMEMBER_MS ──▶ resting
 *                                                                                                          ▲                      │
 *                                                                                                          └── a quarter of it ───┘
 *     steady:  what passes at the greatest rate in the shortest round trip and TARGET_MS
 *     resting: the shortest round trip is old; no bulk goes out until all was read, so that it can be measured anew
 *
 * On a busy machine the programs are away for longer than the line takes; hence the greatest rate of the last while, and not that of now.
 * The line may idle meanwhile: what is on its way to fill such a gap costs each call more than the gap does. The target is shorter on a short
 * way, and shortest where that is fast too: there the programs are what everything waits for, and a call waits, hop by hop, for what they
 * still have to do. One that is always away for longer than the target is sent less and less, but on such a way no less than FAST_MIN_BYTES.
 *
 * A program that was away then reads in one go what its kernel kept for it, which is no rate of the line: rates are taken over RATE_MS.
 *
 * Control frames and RPC do not wait for this, only data does: a side that waits could not say PONG otherwise. A key press, which is data, would
 * wait for the next PONG: so streams that have little to send may have as much again on its way, also while the way rests. Control frames are
 * not counted either: who only gives credit has sent nothing that entitles it to ask.
 */
const MIN_BYTES = 32 * 1024;
const FAST_MIN_BYTES = 256 * 1024;
const FIRST_BYTES = 64 * 1024;
const MAX_BYTES = 16 * 1024 * 1024;
/** What may wait on top of the round trip, in milliseconds: on a way that is not SHORT, on one that is, and on one that is FAST too. */
const TARGET_MS = { long: 5, short: 2, fast: 1 } as const;
/** Milliseconds of round trip; in more, what goes out goes out in heaps, which wait for themselves. */
const SHORT_MS = 5;
/** 400 Mbit/s. */
const FAST_BYTES_PER_MS = 50_000;
/** The least time that a rate is taken over. What a program that was away finds in its kernel, TARGET_MS' worth, is little in it. */
const RATE_MS = 32;
const DECAY = 0.75;
/** Parts of what may be on its way after each of which the other side is asked; on a fast line an answer costs the processors what a message does. */
const PROBES = { slow: 8, fast: 2 } as const;
/** Messages into which it is cut. */
const MESSAGES = 4;
const MIN_PROBE_BYTES = 16 * 1024;
/** More than are under way in order; text, which waits for no room here, asks no more than that either. */
const MAX_PROBES = 16;
/** After which what was measured counts no more: the way may be another by now. */
const REMEMBER_MS = 10_000;
/** The same of the first time on a short way: it was taken while the programs began, which may take longer than the way. */
const REMEMBER_FIRST_MS = 1_000;
/** Answers of which the shortest counts on a short way, where one that comes late says more of the programs than of the way. */
const SHORT_RESTS = 4;

/** A PING, and what was known when it went out. */
interface Probe {
  readonly value: number;
  readonly at: number;
  /** All that was sent before it. */
  readonly sentBytes: number;
  /** What of it had been read, by the last answer. */
  readonly readBytes: number;
}

export class Flight {
  readonly #now: () => number;
  #limitBytes = FIRST_BYTES;
  #isOpening = true;
  #isFast = false;
  /** Up to where it grows, as much as is read: that doubles it in a round trip. */
  #growsTo = 0;
  #sentBytes = 0;
  #readBytes = 0;
  #probes: Probe[] = [];
  #probedBytes = 0;
  /** A PING is to go out, or is about to. */
  #isAsking = false;
  /** Whether data has waited for room since the last change. */
  #wasFull = false;
  /** The least of all answers since then: what goes out in a heap waits for itself, and only where the way is full for all of it. */
  #waitedMs = Number.POSITIVE_INFINITY;
  /** What was sent when the limit last changed: the next change waits for what was sent after that. */
  #changedAt = 0;
  #leastMs = Number.POSITIVE_INFINITY;
  #leastSince = 0;
  readonly #rate = new Greatest(REMEMBER_MS);
  /** From when the rate is taken that comes next, and what had been read then. */
  #rateSince: number;
  #rateFrom = 0;
  /** The shortest time is being measured anew by what is sent from this offset on. */
  #restsFrom: number | undefined;
  /** Answers that have come since then, and the shortest time of them. */
  #rests = 0;
  #restMs = Number.POSITIVE_INFINITY;
  #rememberMs = REMEMBER_FIRST_MS;

  constructor(now: () => number) {
    this.#now = now;
    this.#rateSince = now();
  }

  /** Bytes that one message should have at most: several fit into what may be on its way. */
  get messageBytes(): number {
    return this.#limitBytes / MESSAGES;
  }

  /** Bytes of data that may still go out. */
  get roomBytes(): number {
    return this.#limit() - (this.#sentBytes - this.#readBytes);
  }

  /** Bytes that may still go out of streams that have little to send: as much again. */
  get sparseRoomBytes(): number {
    return 2 * this.#limitBytes - (this.#sentBytes - this.#readBytes);
  }

  #limit(): number {
    return this.#restsFrom === undefined ? this.#limitBytes : 0;
  }

  /** So much went out, data or text. */
  sent(bytes: number): void {
    this.#sentBytes += bytes;
  }

  /** True when a PING should go out now. */
  isDue(): boolean {
    const isFull = this.roomBytes <= 0;
    this.#wasFull ||= isFull;
    const unasked = this.#sentBytes - this.#probedBytes;
    if (this.#isAsking || this.#probes.length >= MAX_PROBES) return false;
    const part = this.#limitBytes / PROBES[this.#isFast ? 'fast' : 'slow'];
    const isDue = unasked >= Math.max(MIN_PROBE_BYTES, part) || (isFull && this.#probes.length === 0);
    this.#isAsking = isDue;
    return isDue;
  }

  /** The PING with `value` goes out, behind all that was sent. */
  asked(value: number): void {
    this.#isAsking = false;
    this.#probedBytes = this.#sentBytes;
    this.#probes.push({ value, at: this.#now(), sentBytes: this.#sentBytes, readBytes: this.#readBytes });
  }

  /** Its PONG came. */
  answered(value: number): void {
    const index = this.#probes.findIndex((probe) => probe.value === value);
    const probe = this.#probes[index];
    if (probe === undefined) return;
    this.#probes = this.#probes.slice(index + 1);
    const now = this.#now();
    const readBytes = probe.sentBytes - this.#readBytes;
    this.#readBytes = probe.sentBytes;
    this.#takeRate(now);
    const tookMs = now - probe.at;
    if (this.#restsFrom !== undefined) return this.#rest(tookMs, now, probe);
    if (tookMs <= this.#leastMs) this.#remember(tookMs, now);
    else if (now - this.#leastSince > (this.#isShort ? this.#rememberMs : REMEMBER_MS)) this.#restsFrom = this.#sentBytes;
    this.#waitedMs = Math.min(this.#waitedMs, tookMs - this.#leastMs);
    if (probe.sentBytes >= this.#changedAt) this.#change(this.#waitedMs);
    this.#grow(readBytes);
  }

  #takeRate(now: number): void {
    const passedMs = now - this.#rateSince;
    if (passedMs < RATE_MS) return;
    this.#rate.add((this.#readBytes - this.#rateFrom) / passedMs, now);
    this.#rateSince = now;
    this.#rateFrom = this.#readBytes;
  }

  /** Until answers to what was asked when all had been read. */
  #rest(tookMs: number, now: number, { readBytes }: Probe): void {
    if (this.#restsFrom === undefined || readBytes < this.#restsFrom) return;
    this.#rests += 1;
    this.#restMs = Math.min(this.#restMs, tookMs);
    if (this.#restMs < SHORT_MS && this.#rests < SHORT_RESTS) return;
    this.#remember(this.#restMs, now);
    this.#restsFrom = undefined;
    this.#rests = 0;
    this.#restMs = Number.POSITIVE_INFINITY;
    this.#rememberMs = REMEMBER_MS;
    // All of it at once would wait for itself.
    this.#limitBytes = Math.max(MIN_BYTES, this.#limitBytes / 4);
    this.#beginRound();
  }

  get #isShort(): boolean {
    return this.#leastMs < SHORT_MS;
  }

  #remember(leastMs: number, now: number): void {
    this.#leastMs = leastMs;
    this.#leastSince = now;
  }

  /** Once a round trip. */
  #change(waitedMs: number): void {
    const isShort = this.#isShort;
    this.#isFast = isShort && this.#rate.value >= FAST_BYTES_PER_MS;
    const targetMs = TARGET_MS[this.#isFast ? 'fast' : isShort ? 'short' : 'long'];
    const leastBytes = this.#isFast ? FAST_MIN_BYTES : MIN_BYTES;
    const passes = Math.max(leastBytes, this.#passesIn(targetMs));
    const isLate = waitedMs > targetMs;
    if (isLate) this.#isOpening = false;
    if (this.#isOpening && this.#wasFull) this.#growsTo = MAX_BYTES;
    else this.#growsTo = isLate && isShort ? leastBytes : passes;
    if (isLate) this.#limitBytes = Math.min(this.#limitBytes, Math.max(this.#limitBytes * DECAY, passes));
    this.#beginRound();
  }

  #beginRound(): void {
    this.#wasFull = false;
    this.#waitedMs = Number.POSITIVE_INFINITY;
    this.#changedAt = this.#sentBytes;
  }

  /** Bit by bit, as it is read: all at once, the growth would wait where it is to be measured whether there is room for it. */
  #grow(readBytes: number): void {
    this.#limitBytes = Math.max(this.#limitBytes, Math.min(this.#growsTo, this.#limitBytes + readBytes));
  }

  /** In the shortest round trip and so much longer. */
  #passesIn(moreMs: number): number {
    return Math.min(MAX_BYTES, this.#rate.value * (this.#leastMs + moreMs));
  }
}

/** The greatest of the values of the last while, or of twice that. */
class Greatest {
  readonly #whileMs: number;
  #since = 0;
  #current = 0;
  #before = 0;

  constructor(whileMs: number) {
    this.#whileMs = whileMs;
  }

  get value(): number {
    return Math.max(this.#current, this.#before);
  }

  add(value: number, now: number): void {
    if (now - this.#since > this.#whileMs) {
      this.#before = this.#current;
      this.#current = 0;
      this.#since = now;
    }
    this.#current = Math.max(this.#current, value);
  }
}
