/** What the benchmark orders of an operator, and what the operator tells when it has done it. */
export type Order = PourOrder | OpenOrder | FillOrder | TransferOrder;

/** Write as fast as `streams` streams take it. They are opened by the first such order and kept. */
export interface PourOrder {
  readonly do: 'pour';
  readonly streams: number;
  /** Before the window, for buffers and windows to fill. */
  readonly settleMs: number;
  /** `{opened: true}` is told when it begins, `{closed: true}` when it is over. */
  readonly windowMs: number;
  /** Within the window: a control call and a keystroke at a time, one after another. */
  readonly pings: boolean;
}

export interface Poured {
  /** Bytes, over all such orders of this operator. */
  readonly written: number;
  /** Milliseconds of each. */
  readonly calls: readonly number[];
  readonly keystrokes: readonly number[];
}

/** Open a stream, write a byte and wait until it comes back, `times` times one after another. */
export interface OpenOrder {
  readonly do: 'open';
  readonly times: number;
}

export interface Opened {
  /** Milliseconds of each. */
  readonly opened: readonly number[];
}

/** Open streams that the other end never reads, and write to each until it takes no more, at most `maxBytes`. */
export interface FillOrder {
  readonly do: 'fill';
  readonly streams: number;
  readonly maxBytes: number;
}

export interface Filled {
  /** Bytes that the streams took. */
  readonly taken: number;
}

/** Send random bytes on a new stream, and end it. */
export interface TransferOrder {
  readonly do: 'transfer';
  readonly bytes: number;
}

export interface Transferred {
  /** SHA-256 in hex of what was sent, and of what the other end says it got. */
  readonly sent: string;
  readonly got: string;
}
