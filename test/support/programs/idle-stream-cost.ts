/**
 * What an idle stream costs at an end, or in a hub that relays it: prints bytes of this process's heap a stream.
 *
 *   node --expose-gc idle-stream-cost.ts opener|acceptor|relay
 *
 * Only the side that is asked about is here; what its other side would say is written by hand. Each stream has carried some bytes both ways
 * before it is idle, as most have. Lines are as full as they may be.
 */
import { hostOwner, operatorOwner, RelayBook } from '../../../hub/relay/relay-book.ts';
import { systemClock } from '../../../shared/clock.ts';
import { MuxChannel } from '../../../shared/mux/channel.ts';
import { FRAME, writeHeader } from '../../../shared/mux/frame.ts';
import { DEFAULT_MUX_LIMITS } from '../../../shared/mux/limits.ts';
import { newKey } from '../../../shared/mux/numbers.ts';
import { writeHello, writeOpen, writeOpenOk, writeWindow } from '../../../shared/mux/payload.ts';
import { MemoryPool } from '../../../shared/mux/pool.ts';
import { MuxSession, type MuxSessionOptions } from '../../../shared/mux/session.ts';

const LINES = 9;
const CREDIT = 64 * 1024;
const TEXT = Buffer.from('a few bytes, and then nothing');
const SESSION = { id: 'AAAAAAAAAAAAAAAAAAAAAA', key: 'BBBBBBBBBBBBBBBBBBBBBB', epoch: 1 };
const { maxFrameBytes, maxMessageBytes, initialWindowBytes, maxStreams } = DEFAULT_MUX_LIMITS;
const PEER_LIMITS = { maxFrameBytes, maxMessageBytes, initialWindowBytes, maxStreams };
const EVENTS = { onReadable() {}, onDrain() {}, onClose() {} };

/** One side of a line whose other side is only played. */
class Side {
  readonly mux: MuxSession;

  constructor(role: 'dialer' | 'acceptor', onOpen?: MuxSessionOptions['onOpen']) {
    const fail = (error: Error): void => {
      throw error;
    };
    const hello = { contract: 1, software: 'test/1', role: 'agent', session: SESSION } as const;
    const pool = new MemoryPool(1024 ** 4);
    const now = () => performance.now();
    this.mux = new MuxSession({ role, hello, onOpen, pool, now, onReady() {}, onClosed: fail, onFault: fail });
    this.hears(writeHello({ protocol: 1, limits: PEER_LIMITS, ...hello }));
  }

  /** The other side takes whatever this one has to say, and says so. */
  hears(frame: Uint8Array): void {
    this.#speak();
    this.mux.receive(frame);
    this.#speak();
  }

  hearsData(id: number): void {
    this.hears(Buffer.concat([writeHeader(FRAME.DATA, 0, TEXT.length, id), TEXT]));
  }

  hearsAck(id: number): void {
    this.hears(writeWindow(id, { limit: CREDIT + TEXT.length, acked: TEXT.length, end: false, done: false }));
  }

  #speak(): void {
    while (this.mux.pull(1024 ** 2) !== undefined);
  }
}

/** Ids as a dialler gives them. */
const IDS = Array.from({ length: maxStreams }, (_, index) => 2 * index + 1);
const kept: unknown[] = [];

async function opener(): Promise<void> {
  const side = new Side('dialer');
  for (const id of IDS) {
    const opening = MuxChannel.open(side.mux, {});
    side.hears(writeOpenOk(id, { creditBytes: CREDIT, meta: { transport: 'vhost-vsock', halfClose: true, generation: 1 } }));
    useEnd(side, await opening);
  }
  kept.push(side);
}

async function acceptor(): Promise<void> {
  const side: Side = new Side('acceptor', (stream) => {
    const channel = MuxChannel.accept(side.mux, stream, {});
    queueMicrotask(() => useEnd(side, channel));
  });
  for (const id of IDS) {
    side.hears(writeOpen(id, newKey(), { creditBytes: CREDIT, meta: {} }));
    await Promise.resolve();
  }
  kept.push(side);
}

function useEnd(side: Side, channel: MuxChannel): void {
  channel.attach(EVENTS);
  channel.write(TEXT);
  side.hearsAck(channel.id);
  side.hearsData(channel.id);
  channel.read();
  kept.push(channel);
}

async function relay(): Promise<void> {
  const book = new RelayBook({ clock: systemClock });
  const host = new Side('acceptor');
  const operator: Side = new Side('acceptor', (from, meta) => {
    const owners = [operatorOwner('token', operator.mux.peerHello), hostOwner('host', host.mux.peerHello)];
    const hooks = { onOpened: () => kept.push(meta), onEnd: () => kept.push(from) };
    book.make(from.key, owners, hooks).open(from, operator.mux.pool, host.mux, meta);
  });
  for (const id of IDS) {
    const onwardId = id + 1;
    operator.hears(writeOpen(id, newKey(), { creditBytes: CREDIT, meta: {} }));
    host.hears(writeOpenOk(onwardId, { creditBytes: CREDIT, meta: {} }));
    operator.hearsData(id);
    host.hearsAck(onwardId);
    host.hearsData(onwardId);
    operator.hearsAck(id);
  }
  kept.push(book);
}

const open = { opener, acceptor, relay }[process.argv[2] ?? ''];
if (open === undefined || gc === undefined) throw new Error('usage: node --expose-gc idle-stream-cost.ts opener|acceptor|relay');

/** Bytes in use, after what was garbage is gone. */
function usedBytes(): number {
  for (let round = 0; round < 3; round += 1) gc?.();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

// The first has the compiled code with it.
await open();
const before = usedBytes();
for (let line = 1; line < LINES; line += 1) await open();
process.stdout.write(`${Math.round((usedBytes() - before) / ((LINES - 1) * maxStreams))}\n`);
process.exit(kept.length > 0 ? 0 : 1);
