/**
 * The streams of one side, and what their lines have in common: ids, memory and, where they may outlive a line, who they belong to.
 *
 *     attached ── detach(): the line broke ──▶ held ── attach(): the next line ──▶ attached
 *         └────── end() ────────▶ empty ◀────── end(): nobody came back in time ───┘
 *
 * While held, users go on as before: they read what has come and write as far as there is credit. What they reset is told on the next
 * line. Streams that were not open yet do not wait.
 */
import type { FairleadError } from '../errors.ts';
import type { MemoryPool } from './pool.ts';
import { RESET_CODES } from './reset-codes.ts';
import type { ListedEntry } from './resume-entry.ts';
import type { MuxStream, StreamHost } from './stream.ts';

/** What the session does for the streams on its line. */
export type StreamLine = Pick<StreamHost, 'queueControl' | 'queueWindow' | 'activate'>;

export interface TableOptions {
  /** Who dialled: it has the odd ids. */
  readonly role: 'dialer' | 'acceptor';
  /** Receive memory of these streams. */
  readonly pool: MemoryPool;
}

export class StreamTable implements StreamHost {
  readonly pool: MemoryPool;
  readonly role: 'dialer' | 'acceptor';
  readonly #streams = new Map<number, MuxStream>();
  readonly #peerParity: number;
  #line: StreamLine | undefined;
  #ownCount = 0;
  #nextId: number;
  #lastPeerId = 0;
  /** Reset while held: their entries, so that the other side knows which are meant, and the frames that end them. */
  #resets: { readonly entry: ListedEntry; readonly frame: Uint8Array }[] = [];

  constructor({ role, pool }: TableOptions) {
    this.role = role;
    this.pool = pool;
    this.#peerParity = role === 'dialer' ? 0 : 1;
    this.#nextId = role === 'dialer' ? 1 : 2;
  }

  /** Streams from either side. */
  get size(): number {
    return this.#streams.size;
  }

  /** Whether the next line has to be told something. */
  get isWaiting(): boolean {
    return this.#streams.size > 0 || this.#resets.length > 0;
  }

  get ownCount(): number {
    return this.#ownCount;
  }

  get peerCount(): number {
    return this.#streams.size - this.#ownCount;
  }

  /** Highest id that the peer has given. */
  get lastPeerId(): number {
    return this.#lastPeerId;
  }

  /** The id of our next stream; beyond `WIRE.maxStreamId` there is none left. */
  get nextId(): number {
    return this.#nextId;
  }

  isOn(line: StreamLine): boolean {
    return this.#line === line;
  }

  get(id: number): MuxStream | undefined {
    return this.#streams.get(id);
  }

  isPeerId(id: number): boolean {
    return id % 2 === this.#peerParity;
  }

  /** Whether there was such a stream on this line. */
  isPast(id: number): boolean {
    return this.isPeerId(id) ? id <= this.#lastPeerId : id < this.#nextId;
  }

  /** Takes a stream of either side in; its id counts as given. */
  add(stream: MuxStream): void {
    this.#streams.set(stream.id, stream);
    if (this.isPeerId(stream.id)) {
      this.#lastPeerId = Math.max(this.#lastPeerId, stream.id);
    } else {
      this.#ownCount += 1;
      this.#nextId = Math.max(this.#nextId, stream.id + 2);
    }
  }

  /** The peer's OPEN was seen, though it made no stream. */
  skip(peerId: number): void {
    this.#lastPeerId = peerId;
  }

  /** The line is there. Gives the entries to say on it, and the resets to say after them. Ids count on above those. */
  attach(line: StreamLine): { readonly entries: readonly ListedEntry[]; readonly resets: readonly Uint8Array[] } {
    this.#line = line;
    const resets = this.#resets;
    this.#resets = [];
    const entries = [...resets.map(({ entry }) => entry), ...[...this.#streams.values()].map((stream) => stream.beginRound())];
    this.#lastPeerId = 0;
    this.#nextId = this.role === 'dialer' ? 1 : 2;
    for (const { streamId } of entries) {
      if (this.isPeerId(streamId)) this.#lastPeerId = Math.max(this.#lastPeerId, streamId);
      else this.#nextId = Math.max(this.#nextId, streamId + 2);
    }
    return { entries, resets: resets.map(({ frame }) => frame) };
  }

  /** The line broke: open streams wait for the next one, the others end with `error`. Does nothing when another line is here by now. */
  detach(line: StreamLine, error: FairleadError, onFault: (thrown: unknown) => void): void {
    if (this.#line !== line) return;
    this.#line = undefined;
    for (const stream of this.#streams.values()) {
      if (stream.state === 'open') stream.detached();
      else told(stream, error, onFault);
    }
  }

  /** The line is gone for good, or nobody came back: all streams end with `error`, but for those whose handler takes a loss. */
  end(error: FairleadError, { isLoss, onFault }: { isLoss: boolean; onFault: (thrown: unknown) => void }): void {
    this.#line = undefined;
    for (const stream of this.#streams.values()) if (!isLoss || !lost(stream, onFault)) told(stream, error, onFault);
    this.#resets = [];
  }

  queueControl(frame: Uint8Array): void {
    this.#line?.queueControl(frame);
  }

  queueReset(stream: MuxStream, frame: Uint8Array): void {
    if (this.#line !== undefined) this.#line.queueControl(frame);
    else if (stream.state === 'open') this.#resets.push({ entry: stream.beginRound(), frame });
  }

  queueWindow(stream: MuxStream): void {
    this.#line?.queueWindow(stream);
  }

  activate(stream: MuxStream): void {
    this.#line?.activate(stream);
  }

  remove(stream: MuxStream): void {
    if (this.#streams.delete(stream.id) && !this.isPeerId(stream.id)) this.#ownCount -= 1;
  }
}

function told(stream: MuxStream, error: FairleadError, onFault: (thrown: unknown) => void): void {
  try {
    stream.onReset(RESET_CODES.SESSION_LOST, error.message);
  } catch (thrown) {
    onFault(thrown);
  }
}

function lost(stream: MuxStream, onFault: (thrown: unknown) => void): boolean {
  try {
    return stream.onLost();
  } catch (thrown) {
    onFault(thrown);
    return true;
  }
}
