/**
 * The streams that this hub relays, by their keys, and whose legs they are: so that an end whose line broke finds its streams again.
 *
 *     joined ── onHeld: a leg's line is gone ──▶ held ── take(): its owner is here again ──▶ joined
 *     (nothing) ── take(): a stream this hub has never seen ──▶ held, until the other end comes too
 *                        held ── the grace is over, released() ──▶ ended with SESSION_LOST at the end that is here
 *
 * What a hub keeps of a stream is only here, and no byte of it: one that starts anew learns the same from its ends, each of which has the
 * key, 128 random bits that nobody else was told. A leg that was here goes to no other owner: the same host or token, and the same
 * session by its secret.
 *
 * A stream that this hub has never seen stands on the word of one end alone until the other comes. Anybody with a token may say so of as many
 * keys as a session holds, again and again with new sessions: so there is a limit for each account.
 */
import type { Clock, Timer } from '../../shared/clock.ts';
import type { PeerHello } from '../../shared/mux/hello.ts';
import { GRACE_MS } from '../../shared/mux/limits.ts';
import type { StreamKey } from '../../shared/mux/numbers.ts';
import type { MemoryPool } from '../../shared/mux/pool.ts';
import { Relay, type RelayHooks, type Side } from '../../shared/mux/relay.ts';
import { RESET_CODES } from '../../shared/mux/reset-codes.ts';
import type { ResumeEntry } from '../../shared/mux/resume-entry.ts';
import type { RawStream } from '../../shared/mux/stream-handler.ts';

/** Whose a leg is. */
export interface LegOwner {
  readonly side: Side;
  /** Host, or token and session of an operator. */
  readonly name: string;
  /** Host or token. */
  readonly account: string;
  /** Session and its key; undefined when the end cannot resume. */
  readonly proof: string | undefined;
}

/** One for each session, whose streams have it in common. */
const OWNERS = new WeakMap<PeerHello, LegOwner>();

export function hostOwner(host: string, hello: PeerHello | undefined): LegOwner {
  return ownerOf(hello, 'far', host, () => host);
}

export function operatorOwner(tokenId: string, hello: PeerHello | undefined): LegOwner {
  return ownerOf(hello, 'near', tokenId, () => `${tokenId}/${hello?.session.id ?? ''}`);
}

function ownerOf(hello: PeerHello | undefined, side: Side, account: string, nameOf: () => string): LegOwner {
  const known = hello === undefined ? undefined : OWNERS.get(hello);
  if (known !== undefined) return known;
  const owner = { side, name: nameOf(), account, proof: proofOf(hello) };
  if (hello !== undefined) OWNERS.set(hello, owner);
  return owner;
}

function proofOf(hello: PeerHello | undefined): string | undefined {
  if (hello === undefined) return undefined;
  const { id, key } = hello.session;
  return key === undefined ? undefined : `${id}/${key}`;
}

export interface RelayBookOptions {
  readonly clock: Clock;
  /** How long a leg may be away, in milliseconds. */
  readonly graceMs?: number;
}

export interface Return {
  /** As `onResume` gave it. */
  readonly stream: RawStream;
  readonly said: ResumeEntry;
  readonly owner: LegOwner;
  /** Where what waits for this leg is counted. */
  readonly pool: MemoryPool;
  /** Of the relay, where this hub has to make it anew; `onNew` is called then. */
  readonly hooks: Omit<RelayHooks, 'onHeld'>;
  readonly onNew: () => void;
}

interface Entry {
  readonly relay: Relay;
  readonly owners: Partial<Record<Side, LegOwner>>;
  /** Who alone has spoken of the stream so far. */
  claimant: string | undefined;
}

/** Streams of one account that wait for an end that this hub has never seen; four sessions' worth. */
export const MAX_CLAIMS = 8192;

/** Streams whose ending is remembered, for ends that were away then. */
const MAX_EPITAPHS = 4096;

/** Why a stream ended, for an end that was away then and comes back. */
interface Epitaph {
  readonly code: number;
  readonly reason: string;
  readonly untilMs: number;
}

export class RelayBook implements Disposable {
  readonly #clock: Clock;
  readonly #graceMs: number;
  readonly #entries = new Map<StreamKey, Entry>();
  readonly #epitaphs = new Map<StreamKey, Epitaph>();
  /** Entries of which a leg is away, with a timer for each such leg. */
  readonly #timers = new Map<Entry, Map<Side, Timer>>();
  /** The same by the name of the leg's owner. */
  readonly #away = new Map<string, Set<Entry>>();
  /** How many each account has claimed. */
  readonly #claims = new Map<string, number>();

  constructor({ clock, graceMs = GRACE_MS }: RelayBookOptions) {
    this.#clock = clock;
    this.#graceMs = graceMs;
  }

  /** Relays of which a leg is away. */
  get heldCount(): number {
    return this.#timers.size;
  }

  /** A relay to be opened. Its legs may come back if both owners can prove that they are who left; else it ends with either's line. */
  make(key: StreamKey, owners: readonly LegOwner[], hooks: Omit<RelayHooks, 'onHeld'>): Relay {
    const canResume = owners.every(({ proof }) => proof !== undefined) && !this.#entries.has(key);
    return canResume ? this.#enter(key, owners, hooks).relay : new Relay(key, hooks);
  }

  /** An end says that it holds a stream: it goes on where this hub or another left off, or is reset. */
  take({ stream, said, owner, pool, hooks, onNew }: Return): void {
    const epitaph = this.#epitaphs.get(said.key);
    if (epitaph !== undefined && epitaph.untilMs > this.#clock.now()) return stream.reset(epitaph.code, epitaph.reason);
    const { side } = owner;
    const found = this.#entries.get(said.key);
    const known = found?.owners[side];
    if (owner.proof === undefined || (known !== undefined && !isSame(known, owner))) {
      return stream.reset(RESET_CODES.UNKNOWN_STREAM, 'the stream is not of this session');
    }
    if (found === undefined && (this.#claims.get(owner.account) ?? 0) >= MAX_CLAIMS) {
      return stream.reset(RESET_CODES.LIMIT, `${MAX_CLAIMS} streams that this hub does not know wait for their other ends`);
    }
    if (found === undefined) onNew();
    const entry = found ?? this.#enterHalf(said.key, owner, hooks);
    entry.owners[side] = owner;
    if (entry.owners.near !== undefined && entry.owners.far !== undefined) this.#confirm(entry);
    this.#isBack(entry, side);
    entry.relay.attach(side, stream, said, pool);
  }

  /** The owner has said all that it holds: whatever else waits for it waits for nothing. */
  released(owner: LegOwner): void {
    for (const { relay } of this.#away.get(owner.name) ?? [])
      relay.end(RESET_CODES.SESSION_LOST, 'the other end has let go of it');
  }

  [Symbol.dispose](): void {
    for (const timers of this.#timers.values()) for (const timer of timers.values()) timer.cancel();
    this.#entries.clear();
    this.#timers.clear();
    this.#epitaphs.clear();
    this.#away.clear();
    this.#claims.clear();
  }

  #enter(key: StreamKey, owners: readonly LegOwner[], hooks: Omit<RelayHooks, 'onHeld'>): Entry {
    const relay: Relay = new Relay(key, {
      ...hooks,
      onHeld: (side) => this.#hold(entry, side),
      onEnd: (outcome, ended) => {
        const isAway = this.#timers.has(entry) || outcome.reset?.code === RESET_CODES.SESSION_LOST;
        if (outcome.reset !== undefined && isAway) this.#remember(key, outcome.reset);
        hooks.onEnd?.(outcome, ended);
      },
      onOver: () => {
        this.#forget(entry);
        hooks.onOver?.();
      },
    });
    const entry: Entry = { relay, owners: {}, claimant: undefined };
    for (const owner of owners) entry.owners[owner.side] = owner;
    this.#entries.set(key, entry);
    return entry;
  }

  #enterHalf(key: StreamKey, owner: LegOwner, hooks: Omit<RelayHooks, 'onHeld'>): Entry {
    const entry = this.#enter(key, [], hooks);
    entry.claimant = owner.account;
    this.#claims.set(owner.account, (this.#claims.get(owner.account) ?? 0) + 1);
    this.#hold(entry, owner.side === 'near' ? 'far' : 'near');
    return entry;
  }

  #hold(entry: Entry, side: Side): void {
    const end = (): void => {
      entry.relay.end(RESET_CODES.SESSION_LOST, `the other end did not come back within ${this.#graceMs} ms`);
    };
    const timers = this.#timers.get(entry) ?? new Map<Side, Timer>();
    this.#timers.set(entry, timers.set(side, this.#clock.setTimeout(end, this.#graceMs)));
    const name = entry.owners[side]?.name;
    if (name === undefined) return;
    const away = this.#away.get(name) ?? new Set();
    this.#away.set(name, away.add(entry));
  }

  #isBack(entry: Entry, side: Side): void {
    const timers = this.#timers.get(entry);
    timers?.get(side)?.cancel();
    timers?.delete(side);
    if (timers?.size === 0) this.#timers.delete(entry);
    const name = entry.owners[side]?.name ?? '';
    const away = this.#away.get(name);
    away?.delete(entry);
    if (away?.size === 0) this.#away.delete(name);
  }

  /** Both ends have spoken of it, or nobody does any more. */
  #confirm(entry: Entry): void {
    const { claimant } = entry;
    if (claimant === undefined) return;
    entry.claimant = undefined;
    const left = (this.#claims.get(claimant) ?? 0) - 1;
    if (left > 0) this.#claims.set(claimant, left);
    else this.#claims.delete(claimant);
  }

  #forget(entry: Entry): void {
    this.#confirm(entry);
    for (const side of this.#timers.get(entry)?.keys() ?? []) this.#isBack(entry, side);
    this.#entries.delete(entry.relay.key);
  }

  #remember(key: StreamKey, { code, reason }: { code: number; reason: string }): void {
    const [oldest] = this.#epitaphs.keys();
    if (oldest !== undefined && this.#epitaphs.size >= MAX_EPITAPHS) this.#epitaphs.delete(oldest);
    this.#epitaphs.set(key, { code, reason, untilMs: this.#clock.now() + this.#graceMs });
  }
}

function isSame(one: LegOwner, other: LegOwner): boolean {
  return one.name === other.name && one.proof === other.proof;
}
