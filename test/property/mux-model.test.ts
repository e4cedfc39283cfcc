/**
 * The mux against a model: whatever two sides do, and however messages are interleaved, each byte arrives once and in order, nobody
 * sends beyond its credit, receive buffers stay within what was reserved, and nothing is left when all is over.
 */
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { FairleadError } from '../../shared/errors.ts';
import { MuxChannel } from '../../shared/mux/channel.ts';
import { RESET_CODES } from '../../shared/mux/reset-codes.ts';
import { carry, framesOf, MuxPair, MuxSide } from '../support/mux-pair.ts';

interface End {
  readonly channel: MuxChannel;
  other: End | undefined;
  written: number;
  read: number;
  ended: boolean;
  closed: boolean;
  failed: boolean;
}

/** Byte number `offset` of what stream `id` carries: any loss, doubling or mix-up shows. */
const byteAt = (id: number, offset: number): number => (id * 31 + offset * 7 + (offset >> 8)) & 0xff;

function ensure(holds: boolean, otherwise: string): void {
  if (!holds) throw new Error(otherwise);
}

type Use = { readonly kind: 'write' | 'read' | 'end' | 'reset'; readonly which: number; readonly bytes: number };
type Action = { readonly kind: 'open' | 'move'; readonly left: boolean; readonly bytes: number } | Use;

const action = (): fc.Arbitrary<Action> =>
  fc.oneof(
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('open' as const), left: fc.boolean(), bytes: fc.constant(0) }) },
    {
      weight: 6,
      arbitrary: fc.record({
        kind: fc.constant('move' as const),
        left: fc.boolean(),
        bytes: fc.integer({ min: 2048, max: 70_000 }),
      }),
    },
    {
      weight: 8,
      arbitrary: fc.record({
        kind: fc.constantFrom('write' as const, 'write' as const, 'read' as const, 'read' as const, 'end' as const),
        which: fc.nat(50),
        bytes: fc.oneof(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 1, max: 200_000 })),
      }),
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('reset' as const), which: fc.nat(50), bytes: fc.constant(0) }) },
  );

class Model {
  readonly pair = new MuxPair();
  readonly ends: End[] = [];
  readonly #unpaired = new Map<number, End>();

  do(action: Action): void {
    if ('which' in action) {
      const end = this.ends[action.which % Math.max(1, this.ends.length)];
      if (end !== undefined) this.#use(end, action);
    } else if (action.kind === 'open') {
      const side = action.left ? this.pair.dialer : this.pair.acceptor;
      void MuxChannel.open(side.session, {}).then(
        (channel) => this.#add(channel),
        () => {},
      );
    } else {
      const [from, to] = action.left ? [this.pair.dialer, this.pair.acceptor] : [this.pair.acceptor, this.pair.dialer];
      carry(from, to, action.bytes);
      this.accept();
    }
  }

  accept(): void {
    for (const side of [this.pair.dialer, this.pair.acceptor]) {
      for (const { stream } of side.offers.splice(0)) this.#add(MuxChannel.accept(side.session, stream, {}));
    }
  }

  read(end: End, maxChunks: number): void {
    for (let count = 0; count < maxChunks; count += 1) {
      const chunk = end.channel.read();
      if (chunk === undefined) break;
      for (const byte of chunk) {
        if (byte !== byteAt(end.channel.id, end.read)) throw new Error(`stream ${end.channel.id}: wrong byte at ${end.read}`);
        end.read += 1;
      }
    }
    if (end.channel.ended && end.other !== undefined && !end.failed) ensure(end.read === end.other.written, 'bytes are missing');
  }

  checkBounds(): void {
    for (const side of [this.pair.dialer, this.pair.acceptor]) {
      ensure(side.closedWith === undefined, `a session closed: ${side.closedWith?.message}`);
      ensure(side.processPool.usedBytes === side.session.pool.usedBytes, 'the pools do not agree');
    }
    for (const { channel, closed } of this.ends) {
      ensure(closed || channel.readableBytes <= channel.windowBytes, 'more waits than the window allows');
    }
  }

  #use(end: End, { kind, bytes }: Use): void {
    if (kind === 'read') this.read(end, 1 + (bytes % 8));
    if (kind === 'reset') end.channel.reset(RESET_CODES.CANCELLED, '');
    if (end.ended || end.closed) return;
    if (kind === 'end') {
      end.ended = true;
      end.channel.end();
    }
    if (kind === 'write') {
      end.channel.write(Uint8Array.from({ length: bytes }, (_, index) => byteAt(end.channel.id, end.written + index)));
      end.written += bytes;
    }
  }

  #add(channel: MuxChannel): void {
    const end: End = {
      channel,
      other: this.#unpaired.get(channel.id),
      written: 0,
      read: 0,
      ended: false,
      closed: false,
      failed: false,
    };
    if (end.other === undefined) this.#unpaired.set(channel.id, end);
    else end.other.other = end;
    this.ends.push(end);
    channel.attach({
      onReadable: () => {},
      onDrain: () => {},
      onClose: (error) => {
        end.closed = true;
        end.failed = error !== undefined;
      },
    });
  }
}

test('every byte arrives once and in order, within credit and memory, and nothing is left', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(action(), { maxLength: 120 }), fc.boolean(), async (actions, cut) => {
      const model = new Model();
      for (const action of actions) {
        model.do(action);
        await Promise.resolve();
        model.checkBounds();
      }
      if (cut) {
        const error = new FairleadError('INTERRUPTED', 'cut');
        model.pair.dialer.session.close(error);
        model.pair.acceptor.session.close(error);
      } else {
        // End all that is open and read until nothing moves: now all that was written must have been read.
        for (let turn = 0; turn < 200; turn += 1) {
          model.pair.run();
          model.accept();
          await Promise.resolve();
          for (const end of model.ends) {
            if (!end.ended && !end.closed) end.channel.end();
            end.ended = true;
            model.read(end, 1000);
          }
        }
        model.checkBounds();
        for (const end of model.ends) {
          ensure(end.closed, 'a channel is still open');
          ensure(end.failed || end.other?.failed !== false || end.read === end.other.written, 'bytes are missing');
        }
      }
      for (const end of model.ends) model.read(end, 1000);
      for (const side of [model.pair.dialer, model.pair.acceptor]) {
        expect(side.session.streamCount).toBe(0);
        expect(side.processPool.usedBytes).toBe(0);
      }
    }),
    { numRuns: 300 },
  );
});

test('no message of a peer makes receive throw or leaves memory behind', () => {
  const someBytes = fc.uint8Array({ maxLength: 60 });
  const frame = fc
    .record({
      type: fc.integer({ min: 0, max: 14 }),
      flags: fc.constantFrom(0, 0, 0, 1, 255),
      id: fc.constantFrom(0, 1, 2, 3, 4, 0xffffffff),
      payload: fc.oneof(
        someBytes,
        fc.constantFrom(0, 8, 16).map((length) => new Uint8Array(length)),
        fc.constant(Buffer.from('\0\0\0\0\0\0\0\x08{}')),
      ),
    })
    .map(({ type, flags, id, payload }) => {
      const header = Buffer.from([type, flags, payload.length >> 8, payload.length & 0xff, 0, 0, 0, 0]);
      header.writeUInt32BE(id, 4);
      return Buffer.concat([header, payload]);
    });
  fc.assert(
    fc.property(
      fc.array(fc.oneof({ weight: 5, arbitrary: frame }, { weight: 1, arbitrary: someBytes }), { maxLength: 30 }),
      (messages) => {
        const side = new MuxSide('acceptor');
        carry(new MuxSide('dialer'), side);
        for (const message of messages) {
          side.session.receive(new Uint8Array(message));
          for (const { stream } of side.offers.splice(0)) MuxChannel.accept(side.session, stream, {});
          framesOf(side.pullAll());
        }
        side.session.close(new FairleadError('INTERRUPTED', 'over'));
        expect([side.session.streamCount, side.processPool.usedBytes]).toEqual([0, 0]);
      },
    ),
    { numRuns: 500 },
  );
});
