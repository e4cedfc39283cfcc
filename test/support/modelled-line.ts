/**
 * Operator, hub and agent on virtual time: real lines, on sockets that are made of a rate, a delay and the buffers of a kernel. Nothing
 * takes time but the wire, so what is measured is what waits for what.
 */
import type { JsonObject } from '../../shared/errors.ts';
import { Line } from '../../shared/line/line.ts';
import type { MessageSocket, MessageSocketHandlers } from '../../shared/line/message-socket.ts';
import type { LineHandlers } from '../../shared/line/types.ts';
import { MuxChannel } from '../../shared/mux/channel.ts';
import { MemoryPool } from '../../shared/mux/pool.ts';
import { relayStream } from '../../shared/mux/relay.ts';
import { FakeClock } from './fake-clock.ts';

export interface Wire {
  readonly bytesPerMs: number;
  readonly delayMs: number;
  /** What the kernel takes of what is sent before it is on the wire. */
  readonly kernelBytes: number;
}

/** 100 Mbit/s with a socket buffer of 64 KiB. */
export const SLOW: Wire = { bytesPerMs: 12_500, delayMs: 0.5, kernelBytes: 64 * 1024 };
/** As between processes of one machine, whose kernel takes megabytes. */
export const FAST: Wire = { bytesPerMs: 1_000_000, delayMs: 0.05, kernelBytes: 4 * 1024 * 1024 };

class ModelledSocket implements MessageSocket {
  readonly #clock: FakeClock;
  readonly #wire: Wire;
  #other: ModelledSocket | undefined;
  #handlers: MessageSocketHandlers | undefined;
  /** When the wire will have taken all that was sent. */
  #freeAt = 0;

  constructor(clock: FakeClock, wire: Wire) {
    this.#clock = clock;
    this.#wire = wire;
  }

  static pair(clock: FakeClock, wire: Wire): [ModelledSocket, ModelledSocket] {
    const [a, b] = [new ModelledSocket(clock, wire), new ModelledSocket(clock, wire)];
    a.#other = b;
    b.#other = a;
    return [a, b];
  }

  soon(task: () => void): void {
    queueMicrotask(() => process.nextTick(task));
  }

  start(handlers: MessageSocketHandlers): void {
    this.#handlers = handlers;
  }

  get bufferedBytes(): number {
    const waiting = (this.#freeAt - this.#clock.now()) * this.#wire.bytesPerMs;
    return Math.max(0, Math.round(waiting - this.#wire.kernelBytes));
  }

  sendText(text: string): void {
    this.#send(text.length, (handlers) => handlers.onText(text));
  }

  sendBinary(parts: readonly Uint8Array[]): void {
    const message = new Uint8Array(Buffer.concat(parts));
    this.#send(message.length, (handlers) => handlers.onBinary(message));
  }

  close(): void {}
  terminate(): void {}

  take(deliver: (handlers: MessageSocketHandlers) => void): void {
    if (this.#handlers !== undefined) deliver(this.#handlers);
  }

  #send(bytes: number, deliver: (handlers: MessageSocketHandlers) => void): void {
    const { bytesPerMs, delayMs, kernelBytes } = this.#wire;
    const now = this.#clock.now();
    this.#freeAt = Math.max(now, this.#freeAt) + bytes / bytesPerMs;
    this.#clock.setTimeout(() => this.#handlers?.onDrain(), this.#freeAt - kernelBytes / bytesPerMs - now);
    this.#clock.setTimeout(() => this.#other?.take(deliver), this.#freeAt + delayMs - now);
  }
}

const HELLO = { contract: 1, software: 'test/1' } as const;

export class ModelledFleet {
  readonly clock = new FakeClock();
  readonly operator: Line;
  readonly agent: Line;
  /** Its ends of both lines. */
  readonly hub: readonly Line[];
  /** Bytes that were read at the agent, by the stream's name. */
  readonly read = new Map<string, number>();
  /** Of each process, by the same order as the lines: operator, hub, agent. */
  readonly pools = [0, 1, 2].map(() => new MemoryPool(512 * 1024 * 1024));

  constructor(toHub: Wire, toAgent: Wire) {
    const [operatorPool, hubPool, agentPool] = this.pools;
    const [near, hubNear] = ModelledSocket.pair(this.clock, toHub);
    const [far, hubFar] = ModelledSocket.pair(this.clock, toAgent);
    const line = (
      role: 'operator' | 'hub' | 'agent',
      socket: MessageSocket,
      pool: MemoryPool | undefined,
      own: Partial<LineHandlers>,
    ) =>
      new Line({
        socket,
        role: role === 'hub' ? 'acceptor' : 'dialer',
        hello: { ...HELLO, role },
        handlers: { onRequest: async () => ({}), ...own },
        clock: this.clock,
        ...(pool !== undefined && { pool }),
      });
    this.operator = line('operator', near, operatorPool, {});
    const toFar = line('hub', hubFar, hubPool, {});
    const toNear: Line = line('hub', hubNear, hubPool, {
      onRequest: (method, params) => toFar.peer.call(method, params),
      onOpen: (from, meta) => void relayStream({ from, fromPool: toNear.mux.pool, to: toFar.mux, meta }),
    });
    this.hub = [toNear, toFar];
    this.agent = line('agent', far, agentPool, {
      onOpen: (stream, meta) => this.#take(MuxChannel.accept(this.agent.mux, stream, {}, meta), nameIn(meta)),
    });
  }

  /** A stream to the agent, which does with it what its name begins with: `bulk` is read, `echo` comes back, `stalled` is left alone. */
  async open(name: string): Promise<MuxChannel> {
    const opening = MuxChannel.open(this.operator.mux, { name });
    return this.until(opening);
  }

  /** Lets time pass until it has settled. */
  async until<T>(promise: Promise<T>): Promise<T> {
    const settled = new AbortController();
    const settle = (): void => settled.abort();
    promise.then(settle, settle);
    while (!settled.signal.aborted) await this.#step();
    return promise;
  }

  async run(ms: number): Promise<void> {
    const endMs = this.clock.now() + ms;
    this.clock.setTimeout(() => {}, ms);
    while (this.clock.now() < endMs) await this.#step();
  }

  /** On to the next thing that happens, and all that follows from it at once. */
  async #step(): Promise<void> {
    await new Promise(setImmediate);
    const { nextAtMs } = this.clock;
    if (nextAtMs !== undefined) this.clock.advance(Math.max(0, nextAtMs - this.clock.now()));
    await new Promise(setImmediate);
  }

  #take(channel: MuxChannel, name: string): void {
    const onReadable = (): void => {
      if (name.startsWith('stalled')) return;
      for (let chunk = channel.read(); chunk !== undefined; chunk = channel.read()) {
        this.read.set(name, (this.read.get(name) ?? 0) + chunk.length);
        if (name.startsWith('echo')) channel.write(chunk);
      }
    };
    channel.attach({ onReadable, onDrain: () => {}, onClose: () => {} });
  }
}

function nameIn({ name }: JsonObject): string {
  if (typeof name !== 'string') throw new Error('the stream has no name');
  return name;
}

/** Writes as fast as the channel takes it, or until so much is written. */
export function pourInto(channel: MuxChannel, bytes = Number.POSITIVE_INFINITY): void {
  const chunk = new Uint8Array(64 * 1024);
  let left = bytes;
  const write = (): void => {
    while (left > 0) {
      left -= chunk.length;
      if (!channel.write(chunk)) return;
    }
  };
  channel.attach({ onReadable: () => {}, onDrain: write, onClose: () => {} });
  write();
}
