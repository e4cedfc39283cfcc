/** Two mux sessions joined in memory: nothing moves until `run`, which carries messages both ways until neither has one left. */
import { setImmediate as turn } from 'node:timers/promises';
import type { FairleadError, JsonObject } from '../../shared/errors.ts';
import { MuxChannel } from '../../shared/mux/channel.ts';
import { type Frame, frameBytes, readFrame } from '../../shared/mux/frame.ts';
import type { MuxLimits } from '../../shared/mux/limits.ts';
import type { Credit } from '../../shared/mux/payload.ts';
import { MemoryPool } from '../../shared/mux/pool.ts';
import { MuxSession, type MuxSessionOptions } from '../../shared/mux/session.ts';
import type { RawStream, StreamHandler } from '../../shared/mux/stream-handler.ts';

export const SESSION_ID = 'AAAAAAAAAAAAAAAAAAAAAA';
export const TEST_HELLO = { contract: 1, software: 'test/1', role: 'agent', session: { id: SESSION_ID, epoch: 0 } } as const;

export interface Offer {
  readonly stream: RawStream;
  readonly meta: JsonObject;
}

export class MuxSide {
  readonly session: MuxSession;
  /** Streams that the other side opened, in order. */
  readonly offers: Offer[] = [];
  readonly processPool: MemoryPool;
  closedWith: FairleadError | undefined;
  readyCalls = 0;
  nowMs = 0;

  constructor(role: 'dialer' | 'acceptor', options: Partial<MuxSessionOptions> = {}, limits: Partial<MuxLimits> = {}) {
    this.processPool = options.pool ?? new MemoryPool(512 * 1024 * 1024);
    this.session = new MuxSession({
      role,
      hello: TEST_HELLO,
      limits,
      now: () => this.nowMs,
      onReady: () => {
        this.readyCalls += 1;
      },
      onOpen: (stream, meta) => this.offers.push({ stream, meta }),
      onClosed: (error) => {
        this.closedWith = error;
      },
      ...options,
      pool: this.processPool,
    });
  }

  /** Everything that waits, as one message, or undefined. */
  pullAll(maxBytes = 65_568): Uint8Array | undefined {
    const parts = this.session.pull(maxBytes);
    return parts === undefined ? undefined : new Uint8Array(Buffer.concat(parts));
  }

  receiveHex(hex: string): void {
    this.session.receive(fromHex(hex));
  }
}

export class MuxPair {
  readonly dialer: MuxSide;
  readonly acceptor: MuxSide;

  constructor(
    options: { dialer?: Partial<MuxSessionOptions>; acceptor?: Partial<MuxSessionOptions>; limits?: Partial<MuxLimits> } = {},
  ) {
    this.dialer = new MuxSide('dialer', options.dialer, options.limits);
    this.acceptor = new MuxSide('acceptor', options.acceptor, options.limits);
    this.run();
  }

  run(): void {
    while (carry(this.dialer, this.acceptor) || carry(this.acceptor, this.dialer));
  }
}

/** A stream that is open, with both its ends. */
export async function openChannels(
  pair: MuxPair = new MuxPair(),
  { meta = {}, answer = {} }: { readonly meta?: JsonObject; readonly answer?: JsonObject } = {},
): Promise<{ pair: MuxPair; near: MuxChannel; far: MuxChannel }> {
  const opening = MuxChannel.open(pair.dialer.session, meta);
  pair.run();
  const offer = pair.acceptor.offers.at(-1);
  if (offer === undefined) throw new Error('the stream did not arrive');
  const far = MuxChannel.accept(pair.acceptor.session, offer.stream, answer, offer.meta);
  pair.run();
  return { pair, near: await opening, far };
}

/** Carries messages for as many turns of the event loop, in which Node's streams go on. */
export async function runTurns(pair: MuxPair, turns: number): Promise<void> {
  for (let left = turns; left > 0; left -= 1) {
    pair.run();
    await turn();
  }
}

/** One message from one side to the other; false when there was none. */
export function carry(from: MuxSide, to: MuxSide, maxBytes?: number): boolean {
  const message = from.pullAll(maxBytes);
  if (message === undefined) return false;
  to.session.receive(message);
  return true;
}

/** Writes down all that a raw stream is told. */
export class Recorder implements StreamHandler {
  readonly events: string[] = [];
  readonly chunks: Uint8Array[] = [];

  get bytes(): number {
    return this.chunks.reduce((sum, chunk) => sum + chunk.length, 0);
  }

  onOpened(meta: JsonObject): void {
    this.events.push(`opened ${JSON.stringify(meta)}`);
  }

  onRefused(error: FairleadError): void {
    this.events.push(`refused ${error.code}: ${error.message}`);
  }

  onData(payload: Uint8Array): void {
    this.chunks.push(payload);
    this.events.push(`data ${payload.length}`);
  }

  onCredit({ limit, acked, end, done }: Credit): void {
    if (!end && !done) this.events.push(`credit ${limit} ${acked}`);
  }

  onFin(): void {
    this.events.push('fin');
  }

  onReset(code: number, reason: string): void {
    this.events.push(`reset ${code} ${reason}`.trim());
  }
}

/** The frames of a message; throws what the codec throws. */
export function framesOf(message: Uint8Array = new Uint8Array()): Frame[] {
  const frames: Frame[] = [];
  for (let offset = 0; offset < message.length; ) {
    const frame = readFrame(message, offset);
    frames.push(frame);
    offset += frameBytes(frame);
  }
  return frames;
}

export function fromHex(hex: string): Uint8Array {
  return new Uint8Array(Buffer.from(hex.replaceAll(/\s+/g, ''), 'hex'));
}

export function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
