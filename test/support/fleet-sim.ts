/**
 * Operator, hub and agent on virtual time, joined by simulated lines that can be cut at any byte: what a WebSocket had not delivered whole by
 * then is gone, in both directions. The hub can be replaced by one that knows nothing. Nothing moves until told.
 */

import { hostOwner, operatorOwner, RelayBook } from '../../hub/relay/relay-book.ts';
import { FairleadError } from '../../shared/errors.ts';
import { HeldStreams } from '../../shared/line/held-streams.ts';
import { MuxChannel } from '../../shared/mux/channel.ts';
import type { MuxLimits } from '../../shared/mux/limits.ts';
import { MemoryPool } from '../../shared/mux/pool.ts';
import { MuxSession } from '../../shared/mux/session.ts';
import { FakeClock } from './fake-clock.ts';

const MIB = 1024 ** 2;
export const BROKEN = new FairleadError('INTERRUPTED', 'the line was cut');

/** One direction of a line: messages on their way, of which some bytes have gone already. */
class Pipe {
  readonly from: MuxSession;
  readonly to: MuxSession;
  #message: Uint8Array | undefined;
  #gone = 0;

  constructor(from: MuxSession, to: MuxSession) {
    this.from = from;
    this.to = to;
  }

  /** Moves up to `bytes`; a message arrives when its last byte does. Returns how many moved. */
  move(bytes: number, messageBytes: number): number {
    let left = bytes;
    while (left > 0) {
      this.#message ??= this.#next(messageBytes);
      if (this.#message === undefined) break;
      const step = Math.min(left, this.#message.length - this.#gone);
      this.#gone += step;
      left -= step;
      if (this.#gone < this.#message.length) break;
      const whole = this.#message;
      this.#message = undefined;
      this.#gone = 0;
      this.to.receive(whole);
    }
    return bytes - left;
  }

  #next(messageBytes: number): Uint8Array | undefined {
    const { maxMessageBytes } = this.to.limits;
    const parts = this.from.pull(Math.min(messageBytes, maxMessageBytes));
    if (parts === undefined) return undefined;
    const message = new Uint8Array(Buffer.concat(parts));
    if (message.length > maxMessageBytes)
      throw new Error(`a message of ${message.length} bytes where ${maxMessageBytes} are taken`);
    return message;
  }
}

interface SimLine {
  readonly dialer: MuxSession;
  readonly acceptor: MuxSession;
  readonly pipes: readonly [Pipe, Pipe];
}

export type Leg = 'operator' | 'agent';

export interface SimOptions {
  /** What the agent does with a stream that it accepted. */
  readonly onChannel: (channel: MuxChannel) => void;
  readonly graceMs?: number;
  /** What each of them takes, where that is not the default. */
  readonly limits?: Partial<Record<Leg | 'hub', Partial<MuxLimits>>>;
  /** Of one message at most, about. */
  readonly messageBytes?: number;
}

export class FleetSim {
  readonly clock = new FakeClock();
  readonly operator: HeldStreams;
  readonly agent: HeldStreams;
  readonly pool = new MemoryPool(512 * MIB);
  /** Of the hub that is there now. */
  hubPool = new MemoryPool(512 * MIB);
  readonly #options: SimOptions;
  readonly #graceMs: number;
  #book: RelayBook;
  #lines: Record<Leg, SimLine | undefined> = { operator: undefined, agent: undefined };

  constructor(options: SimOptions) {
    this.#options = options;
    this.#graceMs = options.graceMs ?? 60_000;
    const held = { clock: this.clock, graceMs: this.#graceMs, pool: this.pool };
    this.operator = new HeldStreams(held);
    this.agent = new HeldStreams(held);
    this.#book = this.#newBook();
  }

  get book(): RelayBook {
    return this.#book;
  }

  isUp(leg: Leg): boolean {
    return this.#lines[leg] !== undefined;
  }

  session(leg: Leg): MuxSession | undefined {
    return this.#lines[leg]?.dialer;
  }

  /** A stream from the operator; it settles while the lines move. */
  open(): Promise<MuxChannel> {
    const session = this.session('operator');
    return session === undefined ? Promise.reject(BROKEN) : MuxChannel.open(session, {});
  }

  dial(leg: Leg): void {
    if (this.#lines[leg] !== undefined) return;
    const held = leg === 'operator' ? this.operator : this.agent;
    const dialer = this.#dialerSession(leg, held);
    const acceptor = this.#hubSession(leg);
    this.#lines[leg] = { dialer, acceptor, pipes: [new Pipe(dialer, acceptor), new Pipe(acceptor, dialer)] };
  }

  /** Moves bytes on a line, each way; false when there was none to move. */
  move(leg: Leg, toHub: number, fromHub: number, messageBytes = this.#options.messageBytes ?? 65_568): boolean {
    const line = this.#lines[leg];
    if (line === undefined) return false;
    const moved = line.pipes[0].move(toHub, messageBytes) + line.pipes[1].move(fromHub, messageBytes);
    for (const { closedWith } of [line.dialer, line.acceptor]) {
      if (closedWith !== undefined) throw new Error(`a session of the ${leg} closed: ${closedWith.message}`);
    }
    return moved > 0;
  }

  /** Until nothing moves any more. */
  settle(): void {
    const much = 16 * MIB;
    for (let moved = true; moved; ) moved = this.move('operator', much, much) || this.move('agent', much, much);
  }

  cut(leg: Leg): void {
    const line = this.#lines[leg];
    if (line === undefined) return;
    this.#lines[leg] = undefined;
    const held = leg === 'operator' ? this.operator : this.agent;
    line.dialer.lose(BROKEN);
    held.lost();
    line.acceptor.lose(BROKEN);
  }

  /** The end notices that its line is gone before the hub does: it is back on a new one while the hub still holds the old. */
  switchLine(leg: Leg): () => void {
    const line = this.#lines[leg];
    if (line === undefined) return () => {};
    this.#lines[leg] = undefined;
    line.dialer.lose(BROKEN);
    this.dial(leg);
    return () => line.acceptor.lose(BROKEN);
  }

  /** `kill -9`, and another one in its place that has never heard of any stream. */
  replaceHub(): void {
    for (const leg of ['operator', 'agent'] as const) {
      const line = this.#lines[leg];
      if (line === undefined) continue;
      this.#lines[leg] = undefined;
      line.dialer.lose(BROKEN);
      (leg === 'operator' ? this.operator : this.agent).lost();
    }
    this.#book[Symbol.dispose]();
    this.#book = this.#newBook();
    this.hubPool = new MemoryPool(512 * MIB);
  }

  #newBook(): RelayBook {
    return new RelayBook({ clock: this.clock, graceMs: this.#graceMs });
  }

  #dialerSession(leg: Leg, held: HeldStreams): MuxSession {
    const { id, key, isWaiting } = held;
    const session: MuxSession = new MuxSession({
      role: 'dialer',
      hello: { contract: 1, software: 'sim/1', role: leg, session: { id, key, epoch: 0, resume: isWaiting } },
      held: held.table,
      limits: this.#options.limits?.[leg],
      now: () => this.clock.now(),
      onReady: () => {},
      onRunning: () => held.resumed(),
      onOpen: (stream, meta) => this.#options.onChannel(MuxChannel.accept(session, stream, {}, meta)),
    });
    return session;
  }

  #hubSession(leg: Leg): MuxSession {
    const book = this.#book;
    const ownerOf = (session: MuxSession) =>
      leg === 'operator' ? operatorOwner('token', session.peerHello) : hostOwner('host', session.peerHello);
    const session: MuxSession = new MuxSession({
      role: 'acceptor',
      hello: { contract: 1, software: 'sim/1', role: 'hub', session: { id: 'A'.repeat(22), epoch: 0, resume: true } },
      pool: this.hubPool,
      limits: this.#options.limits?.hub,
      now: () => this.clock.now(),
      onReady: () => {},
      onRunning: (hello) => {
        if (hello.session.resume === true) book.released(ownerOf(session));
      },
      onResume: (stream, said) =>
        book.take({ stream, said, owner: ownerOf(session), pool: session.pool, onNew: () => {}, hooks: {} }),
      onOpen: (stream, meta) => {
        const agent = this.#lines.agent?.acceptor;
        if (agent === undefined) return stream.refuse(new FairleadError('HOST_UNREACHABLE', 'the agent is away'));
        const owners = [operatorOwner('token', session.peerHello), hostOwner('host', agent.peerHello)];
        book.make(stream.key, owners, {}).open(stream, session.pool, agent, meta);
      },
    });
    return session;
  }
}
