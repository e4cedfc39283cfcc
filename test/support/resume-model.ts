/** Runs a script of actions on a simulated fleet, checks what arrives, then lets all end in order and says what is left. */
import type { MuxChannel } from '../../shared/mux/channel.ts';
import { GRACE_MS } from '../../shared/mux/limits.ts';
import { RESET_CODES } from '../../shared/mux/reset-codes.ts';
import { FleetSim, type Leg, type SimOptions } from './fleet-sim.ts';

export type ResumeAction =
  | { readonly kind: 'open' | 'replace-hub' }
  | { readonly kind: 'move'; readonly leg: Leg; readonly toHub: number; readonly fromHub: number }
  | { readonly kind: 'write'; readonly which: number; readonly bytes: number }
  | { readonly kind: 'read'; readonly which: number; readonly chunks: number }
  | { readonly kind: 'end'; readonly which: number }
  | { readonly kind: 'reset'; readonly which: number }
  | { readonly kind: 'cut' | 'switch' | 'dial'; readonly leg: Leg };

interface End {
  readonly channel: MuxChannel;
  /** Says which stream and which direction, so that any mix-up shows. */
  readonly seed: number;
  readonly otherSeed: number;
  other: End | undefined;
  written: number;
  read: number;
  /** What was read and is still being passed on: not consumed yet. */
  taken: number;
  hasEnded: boolean;
  outcome: { readonly error: Error | undefined } | undefined;
}

export interface Left {
  readonly streams: number;
  readonly bytesPromised: number;
  readonly bytesWaiting: number;
  readonly relaysHeld: number;
  readonly timers: number;
}

const byteAt = (seed: number, offset: number): number => (seed * 31 + offset * 7 + (offset >> 8) * 13) & 0xff;

class Model {
  readonly ends: End[] = [];
  readonly sim: FleetSim;
  readonly #unpaired = new Map<string, End>();
  #notices: (() => void)[] = [];
  #wasReset = false;
  #fault: string | undefined;

  constructor(options: Omit<SimOptions, 'onChannel'>) {
    this.sim = new FleetSim({ ...options, onChannel: (channel) => this.#add(channel, 1) });
    this.sim.dial('operator');
    this.sim.dial('agent');
    this.sim.settle();
  }

  do(action: ResumeAction): void {
    const { sim } = this;
    switch (action.kind) {
      case 'open':
        void sim.open().then(
          (channel) => this.#add(channel, 0),
          () => {},
        );
        return;
      case 'move':
        return void sim.move(action.leg, action.toHub, action.fromHub);
      case 'cut':
        return sim.cut(action.leg);
      case 'dial':
        return sim.dial(action.leg);
      case 'switch':
        this.#notices.push(sim.switchLine(action.leg));
        return;
      case 'replace-hub':
        this.#notices = [];
        return sim.replaceHub();
      default:
        return this.#use(action);
    }
  }

  /** The hub notices at last which lines are gone. */
  notice(): void {
    for (const tell of this.#notices.splice(0)) tell();
  }

  /** With `passesOn`, what is read is consumed with the next read. */
  read(end: End, chunks: number, passesOn = false): void {
    end.channel.consumed(end.taken);
    end.taken = 0;
    for (let count = 0; count < chunks; count += 1) {
      const chunk = end.channel.take();
      if (chunk === undefined) break;
      if (passesOn) end.taken += chunk.length;
      else end.channel.consumed(chunk.length);
      for (const byte of chunk) {
        if (byte !== byteAt(end.otherSeed, end.read))
          throw new Error(`stream ${end.channel.id}: a wrong byte at offset ${end.read}`);
        end.read += 1;
      }
    }
    if (end.other !== undefined && end.read > end.other.written) throw new Error('more came than was written');
    if (end.channel.ended && end.other !== undefined && end.outcome?.error === undefined && end.read !== end.other.written) {
      throw new Error(`stream ${end.channel.id} ended short: ${end.read} of ${end.other.written} bytes`);
    }
  }

  endAll(): void {
    for (const end of this.ends) {
      if (!end.hasEnded && end.outcome === undefined) end.channel.end();
      end.hasEnded = true;
      this.read(end, 1000);
    }
  }

  /** A channel's events must not throw. */
  checkEvents(): void {
    if (this.#fault !== undefined) throw new Error(this.#fault);
  }

  checkEnds(): void {
    for (const end of this.ends) {
      // Accepted, but its opener never heard of it; or reset, but only the hub that is gone heard of it. It ends with the grace.
      if (end.outcome === undefined && (end.other === undefined || end.other.outcome?.error !== undefined)) continue;
      if (end.outcome === undefined) throw new Error(`stream ${end.channel.id} is still open`);
      if (end.outcome.error !== undefined && end.other !== undefined && !this.#wasReset)
        throw new Error(`a stream was lost: ${end.outcome.error.message}`);
      if (end.outcome.error === undefined && end.other !== undefined && end.read !== end.other.written)
        throw new Error('bytes are missing');
    }
  }

  #use(action: Extract<ResumeAction, { which: number }>): void {
    const end = this.ends[action.which % Math.max(1, this.ends.length)];
    if (end === undefined) return;
    if (action.kind === 'read') return this.read(end, action.chunks, action.chunks % 2 === 1);
    if (end.outcome !== undefined) return;
    if (action.kind === 'reset') {
      this.#wasReset = true;
      return end.channel.reset(RESET_CODES.CANCELLED, '');
    }
    if (end.hasEnded) return;
    if (action.kind === 'end') {
      end.hasEnded = true;
      end.channel.end();
    } else {
      end.channel.write(Uint8Array.from({ length: action.bytes }, (_, index) => byteAt(end.seed, end.written + index)));
      end.written += action.bytes;
    }
  }

  #add(channel: MuxChannel, direction: 0 | 1): void {
    const name = channel.key;
    const seed = name.charCodeAt(0) * 2;
    const end: End = {
      channel,
      seed: seed + direction,
      otherSeed: seed + 1 - direction,
      other: this.#unpaired.get(name),
      written: 0,
      read: 0,
      taken: 0,
      hasEnded: false,
      outcome: undefined,
    };
    if (end.other === undefined) this.#unpaired.set(name, end);
    else end.other.other = end;
    this.ends.push(end);
    channel.attach({
      onReadable: () => {},
      onDrain: () => {},
      onDelivered: () => {
        const { other, written } = end;
        if (other === undefined || (other.read === written && other.taken === 0)) return;
        this.#fault = `stream ${channel.id}: ${written} bytes count as consumed, of which ${other.read - other.taken} are`;
      },
      onClose: (error) => {
        end.outcome = { error };
      },
    });
  }
}

export async function runResumption(
  actions: readonly ResumeAction[],
  options: Omit<SimOptions, 'onChannel'> = {},
): Promise<Left> {
  const model = new Model(options);
  const { sim } = model;
  for (const action of actions) {
    model.do(action);
    await Promise.resolve();
    model.checkEvents();
    for (const end of model.ends) {
      if (end.outcome === undefined && end.channel.readableBytes > end.channel.windowBytes)
        throw new Error('more waits than the window');
    }
  }
  model.notice();
  for (let turn = 0; turn < 100; turn += 1) {
    sim.dial('operator');
    sim.dial('agent');
    sim.settle();
    await Promise.resolve();
    model.endAll();
  }
  model.checkEvents();
  model.checkEnds();
  sim.clock.advance(GRACE_MS);
  sim.settle();
  if (model.ends.some((end) => end.outcome === undefined)) throw new Error('a stream is open beyond the grace');
  sim.cut('operator');
  sim.cut('agent');
  return {
    streams: sim.operator.table.size + sim.agent.table.size,
    bytesPromised: sim.pool.usedBytes,
    bytesWaiting: sim.hubPool.usedBytes,
    relaysHeld: sim.book.heldCount,
    timers: sim.clock.pendingTimers,
  };
}
