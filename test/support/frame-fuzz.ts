/**
 * A peer that means no good: sequences of frames that are mostly right and wrong in one place, begun with the attacks that other muxes fell to.
 * Each run is made of its seed alone, so that a finding can be had again.
 */

import { RelayBook } from '../../hub/relay/relay-book.ts';
import { FairleadError } from '../../shared/errors.ts';
import { MuxChannel } from '../../shared/mux/channel.ts';
import { FRAME } from '../../shared/mux/frame.ts';
import { FakeClock } from './fake-clock.ts';
import { carry, framesOf, MuxSide, SESSION_ID, TEST_HELLO } from './mux-pair.ts';

const WINDOW = 65_536;
const KEY_BYTES = 16;
/** What a violation may be called. */
const VERDICTS: ReadonlySet<string> = new Set(['PROTOCOL_ERROR', 'FLOW_CONTROL', 'LIMIT_EXCEEDED']);
/** Bytes that a side may answer beyond what it was sent: its own data, and what one frame may bring about. */
const ANSWER_BYTES = 256 * 1024;

/** mulberry32: small, and the same everywhere. */
class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  below(limit: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % limit;
  }

  of<T>(values: readonly T[]): T {
    // SAFETY: below the length; no caller has an empty list.
    return values[this.below(values.length)]!;
  }
}

function frame(type: number, flags: number, id: number, payload: Uint8Array = new Uint8Array()): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt8(type, 0);
  header.writeUInt8(flags, 1);
  header.writeUInt16BE(payload.length & 0xffff, 2);
  header.writeUInt32BE(id, 4);
  return Buffer.concat([header, payload]);
}

function numbers(...values: readonly number[]): Buffer {
  return Buffer.concat(
    values.map((value) => {
      const bytes = Buffer.alloc(8);
      bytes.writeBigUInt64BE(BigInt(value));
      return bytes;
    }),
  );
}

const open = (id: number, credit = WINDOW, meta = '{}'): Buffer =>
  frame(FRAME.OPEN, 0, id, Buffer.concat([numbers(credit), Buffer.alloc(KEY_BYTES, id), Buffer.from(meta)]));
const data = (id: number, bytes: number): Buffer => frame(FRAME.DATA, 0, id, Buffer.alloc(bytes, 0x61));
const reset = (id: number): Buffer => frame(FRAME.RESET, 0, id, Buffer.alloc(4));

/** By name: what was sent in each attack, as messages. All of them end the session. */
export const ATTACKS: Readonly<Record<string, () => Buffer[]>> = {
  'a first frame with more data than the window (CVE-2026-32314)': () => [
    Buffer.concat([open(1), ...Array.from({ length: 5 }, () => data(1, 16_384))]),
  ],
  'rapid reset (CVE-2023-44487)': () =>
    Array.from({ length: 300 }, (_, message) =>
      Buffer.concat(
        Array.from({ length: 100 }, (_, index) => [
          open(message * 200 + index * 2 + 1),
          reset(message * 200 + index * 2 + 1),
        ]).flat(),
      ),
    ),
  'empty frames': () => Array.from({ length: 1000 }, () => frame(FRAME.DATA, 0, 1)),
  'pings without end': () => Array.from({ length: 2000 }, () => frame(FRAME.PING, 0, 0, numbers(1))),
  'pongs without end': () => Array.from({ length: 2000 }, () => frame(FRAME.PONG, 0, 0, numbers(1))),
  'the same window without end': () => [
    open(1),
    ...Array.from({ length: 300 }, () =>
      Buffer.concat(Array.from({ length: 100 }, () => frame(FRAME.WINDOW, 0, 1, numbers(WINDOW, 0)))),
    ),
  ],
  'frames for streams that never were': () => Array.from({ length: 200 }, (_, index) => data(index * 2 + 1, 1)),
  'entries of RESUME without end': () =>
    Array.from({ length: 300 }, () =>
      frame(FRAME.RESUME, 1, 0, Buffer.concat(Array.from({ length: 100 }, (_, index) => entry(index + 1, 1)))),
    ),
};

function entry(id: number, round: number, offsets: readonly [number, number, number] = [0, 0, WINDOW]): Buffer {
  const head = Buffer.alloc(16);
  head.writeUInt32BE(id, 0);
  head.writeUInt32BE(round, 8);
  return Buffer.concat([head, numbers(...offsets), Buffer.alloc(KEY_BYTES, id)]);
}

function randomFrame(dice: Dice): Buffer {
  const id = dice.of([0, 1, 1, 1, 2, 3, 3, 4, 5, 7, 0xffff_ffff]);
  const offset = (): number => dice.of([0, 1, 100, 16_384, WINDOW, WINDOW * 2, 16 * 1024 ** 2, 2 ** 32, 2 ** 53 - 1]);
  switch (dice.below(12)) {
    case 0:
    case 1:
      return open(id, offset(), dice.of(['{}', '{"a":1}', '[]', '{', '']));
    case 2:
    case 3:
      return data(id, dice.of([0, 1, 100, 16_384, 16_385, 40_000]));
    case 4:
      return frame(FRAME.WINDOW, dice.of([0, 0, 1, 2, 3, 4]), id, numbers(offset(), offset()));
    case 5:
      return frame(FRAME.FIN, 0, id, numbers(offset()));
    case 6:
      return reset(id);
    case 7:
      return frame(
        FRAME.RESUME,
        dice.of([0, 1]),
        dice.of([0, 0, 1]),
        entry(id, dice.of([0, 1, 2, 3, 2 ** 30 + 1]), [offset(), offset(), offset()]),
      );
    case 8:
      return frame(FRAME.OPEN_OK, 0, id, Buffer.concat([numbers(offset()), Buffer.from('{}')]));
    case 9:
      return frame(FRAME.OPEN_ERR, 0, id, Buffer.from(dice.of(['{"code":"NOT_FOUND","message":""}', '{}'])));
    case 10:
      return frame(
        dice.of([FRAME.PING, FRAME.PONG, FRAME.GOAWAY]),
        0,
        0,
        numbers(offset(), offset()).subarray(0, dice.of([8, 16])),
      );
    default:
      return frame(dice.below(16), dice.below(4), id, Buffer.alloc(dice.below(64), dice.below(256)));
  }
}

/** Now and then a byte is another, or the message ends early. */
function spoil(message: Buffer, dice: Dice): Buffer {
  if (dice.below(8) !== 0 || message.length === 0) return message;
  if (dice.below(2) === 0) return message.subarray(0, dice.below(message.length));
  const spoilt = Buffer.from(message);
  spoilt[dice.below(spoilt.length)] = dice.below(256);
  return spoilt;
}

/** How the attacks begin, as seeds: enough of each to be known by, too little to be cut off for. */
const BEGINNINGS = Object.values(ATTACKS).map((attack) => attack().slice(0, 4));

function randomMessages(seed: number): Buffer[] {
  const dice = new Dice(seed);
  const beginning = dice.below(16) === 0 ? dice.of(BEGINNINGS).map((message) => spoil(message, dice)) : [];
  const others = Array.from({ length: 1 + dice.below(30) }, () =>
    spoil(Buffer.concat(Array.from({ length: 1 + dice.below(4) }, () => randomFrame(dice))), dice),
  );
  return [...beginning, ...others];
}

/** As `provoke`, of a hub to which the peer says that it holds streams. @throws Error when the hub did what it never may */
function provokeHub(messages: readonly Buffer[]): FairleadError | undefined {
  using book = new RelayBook({ clock: new FakeClock() });
  const hub: MuxSide = new MuxSide('acceptor', {
    onOpen: (stream) => stream.refuse(new FairleadError('NOT_FOUND', 'nobody is here')),
    onResume: (stream, said) =>
      book.take({
        stream,
        said,
        owner: { side: 'near', name: 'a', account: 'a', proof: 'b' },
        pool: hub.session.pool,
        onNew: () => {},
        hooks: {},
      }),
  });
  const session = { id: SESSION_ID, key: SESSION_ID, epoch: 0, resume: true };
  carry(new MuxSide('dialer', { hello: { ...TEST_HELLO, session } }), hub);
  for (const message of messages) {
    hub.session.receive(new Uint8Array(message));
    framesOf(hub.pullAll());
  }
  return verdictOf(hub);
}

/**
 * Gives the messages to a side that accepts streams, reads and writes on them. Returns what the session was closed with, if it was.
 * @throws Error when the side did what it never may
 */
export function provoke(messages: readonly Buffer[]): FairleadError | undefined {
  const channels: MuxChannel[] = [];
  const side: MuxSide = new MuxSide('acceptor', {
    onOpen: (stream) => {
      const channel = MuxChannel.accept(side.session, stream, {});
      channel.write(new Uint8Array(1000));
      channels.push(channel);
    },
  });
  carry(new MuxSide('dialer'), side);
  let [bytesIn, bytesOut] = [0, 0];
  for (const message of messages) {
    bytesIn += message.length;
    side.session.receive(new Uint8Array(message));
    for (const channel of channels.slice(-8)) {
      channel.read();
      if (channel.readableBytes > channel.windowBytes) throw new Error('more waits than the window allows');
    }
    const answer = side.pullAll();
    framesOf(answer);
    bytesOut += answer?.length ?? 0;
    if (bytesOut > 4 * bytesIn + ANSWER_BYTES + channels.length * 2048) throw new Error(`${bytesIn} bytes made ${bytesOut}`);
  }
  side.session.close(new FairleadError('INTERRUPTED', 'over'));
  for (const channel of channels) while (channel.read() !== undefined);
  return verdictOf(side);
}

function verdictOf({ session, closedWith, processPool }: MuxSide): FairleadError | undefined {
  session.close(new FairleadError('INTERRUPTED', 'over'));
  if (session.streamCount !== 0 || processPool.usedBytes !== 0) throw new Error('something is left');
  if (closedWith === undefined || closedWith.code === 'INTERRUPTED') return undefined;
  if (!VERDICTS.has(closedWith.code)) throw new Error(`closed with ${closedWith.code}: ${closedWith.message}`);
  return closedWith;
}

/** As many runs, from a seed that is another each time; `isOver` ends it sooner. Returns how many. @throws Error that names the seed */
export function fuzz(runs: number, isOver: () => boolean = () => false): number {
  const first = Math.floor(Math.random() * 2 ** 32);
  for (let run = 0; run < runs; run += 1) {
    if (run % 1000 === 0 && isOver()) return run;
    const messages = randomMessages(first + run);
    try {
      provoke(messages);
      provokeHub(messages);
    } catch (cause) {
      throw new Error(`the run of seed ${first + run} failed: ${String(cause)}`, { cause });
    }
  }
  return runs;
}
