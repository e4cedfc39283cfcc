/** A hub between two ends: what goes in on one session comes out on the other, unchanged but for the stream's id. */
import { describe, expect, test } from 'vitest';
import { FairleadError } from '../../shared/errors.ts';
import { MuxChannel } from '../../shared/mux/channel.ts';
import { type RelayOutcome, relayStream } from '../../shared/mux/relay.ts';
import { RESET_CODES } from '../../shared/mux/reset-codes.ts';
import { MuxPair, Recorder } from '../support/mux-pair.ts';

const WINDOW = 65_536;

class Hub {
  /** Operator dials the hub, the hub's other session is that of an agent. */
  readonly left = new MuxPair();
  readonly right = new MuxPair();
  readonly outcomes: RelayOutcome[] = [];

  run(): void {
    for (let moved = -1; moved !== this.#readyCalls(); ) {
      moved = this.#readyCalls();
      this.left.run();
      this.#relayNew();
      this.right.run();
      this.left.run();
    }
  }

  /** Streams alive in any of the four sessions. */
  get streamCount(): number {
    const sides = [this.left.dialer, this.left.acceptor, this.right.dialer, this.right.acceptor];
    return sides.reduce((sum, side) => sum + side.session.streamCount, 0);
  }

  #relayNew(): void {
    for (const { stream, meta } of this.left.acceptor.offers.splice(0)) {
      relayStream({
        from: stream,
        to: this.right.dialer.session,
        meta: { ...meta, relayed: true },
        onEnd: (outcome) => this.outcomes.push(outcome),
      });
    }
  }

  #readyCalls(): number {
    const sides = [this.left.dialer, this.left.acceptor, this.right.dialer, this.right.acceptor];
    return sides.reduce((sum, side) => sum + side.readyCalls, 0);
  }
}

async function throughHub(hub = new Hub()): Promise<{ hub: Hub; operator: MuxChannel; agent: MuxChannel }> {
  const opening = MuxChannel.open(hub.left.dialer.session, { method: 'stream.open' });
  hub.run();
  const offer = hub.right.acceptor.offers.at(-1);
  if (offer === undefined) throw new Error('the stream did not arrive');
  const agent = MuxChannel.accept(hub.right.acceptor.session, offer.stream, { generation: 3 }, offer.meta);
  hub.run();
  return { hub, operator: await opening, agent };
}

function readAll(channel: MuxChannel): Uint8Array {
  const chunks: Uint8Array[] = [];
  for (let chunk = channel.read(); chunk !== undefined; chunk = channel.read()) chunks.push(chunk);
  return Buffer.concat(chunks);
}

describe('relayStream', () => {
  test('passes question and answer on', async () => {
    const { operator, agent } = await throughHub();
    expect(agent.meta).toEqual({ method: 'stream.open', relayed: true });
    expect(operator.meta).toEqual({ generation: 3 });
  });

  test('passes bytes both ways and credit end to end, holding at most a window', async () => {
    const { hub, operator, agent } = await throughHub();
    const sent = Uint8Array.from({ length: 5 * WINDOW }, (_, index) => index % 253);
    operator.write(sent);
    hub.run();
    expect(agent.readableBytes).toBe(WINDOW);
    const received: Uint8Array[] = [];
    for (let chunk = readAll(agent); chunk.length > 0; chunk = readAll(agent)) {
      received.push(chunk);
      hub.run();
    }
    expect(Buffer.compare(Buffer.concat(received), sent)).toBe(0);
    expect(agent.windowBytes).toBeGreaterThan(WINDOW);
    agent.write(Uint8Array.of(1, 2, 3));
    hub.run();
    expect([...readAll(operator)]).toEqual([1, 2, 3]);
  });

  test('does not copy payloads', () => {
    const hub = new Hub();
    const near = new Recorder();
    const stream = hub.left.dialer.session.open({}, near, WINDOW);
    hub.run();
    hub.right.acceptor.offers[0]?.stream.accept({}, WINDOW);
    hub.run();
    stream.send(new Uint8Array(16_000));
    const message = hub.left.dialer.pullAll();
    if (message === undefined) throw new Error('nothing was sent');
    hub.left.acceptor.session.receive(message);
    const parts = hub.right.dialer.session.pull(65_536) ?? [];
    expect(parts.map((part) => part.length)).toEqual([16_008]);
    expect(parts[0]?.buffer).toBe(message.buffer);
  });

  test('passes a half-close on each way and ends when both have', async () => {
    const { hub, operator, agent } = await throughHub();
    operator.end();
    hub.run();
    expect(agent.ended).toBe(true);
    expect(hub.outcomes).toEqual([]);
    agent.write(Uint8Array.of(7));
    agent.end();
    hub.run();
    expect([...readAll(operator)]).toEqual([7]);
    expect(operator.ended).toBe(true);
    expect(hub.outcomes).toEqual([{}]);
    hub.run();
    expect(hub.streamCount).toBe(0);
  });

  test('passes a refusal on', async () => {
    const hub = new Hub();
    const opening = MuxChannel.open(hub.left.dialer.session, {});
    hub.run();
    hub.right.acceptor.offers[0]?.stream.refuse(new FairleadError('GUEST_REFUSED', 'nothing listens'));
    hub.run();
    await expect(opening).rejects.toMatchObject({ code: 'GUEST_REFUSED' });
    expect(hub.outcomes).toMatchObject([{ refused: { code: 'GUEST_REFUSED' } }]);
    expect(hub.streamCount).toBe(0);
  });

  test.each(['operator', 'agent'] as const)('passes a reset by the %s on', async (who) => {
    const { hub, operator, agent } = await throughHub();
    const closed: (string | undefined)[] = [];
    for (const channel of [operator, agent]) {
      channel.attach({ onReadable: () => {}, onDrain: () => {}, onClose: (error) => closed.push(error?.message) });
    }
    (who === 'operator' ? operator : agent).reset(RESET_CODES.RESET, 'the guest hung up');
    hub.run();
    expect(closed).toEqual(Array.from({ length: 2 }, () => 'the stream was reset (RESET): the guest hung up'));
    expect(hub.outcomes).toEqual([{ reset: { code: 5, reason: 'the guest hung up' } }]);
    expect(hub.streamCount).toBe(0);
  });

  test.each(['left', 'right'] as const)('the end of the %s session is a SESSION_LOST on the other', async (which) => {
    const { hub, operator, agent } = await throughHub();
    let told: FairleadError | undefined;
    const other = which === 'left' ? agent : operator;
    other.attach({ onReadable: () => {}, onDrain: () => {}, onClose: (error) => void (told = error) });
    const pair = which === 'left' ? hub.left.acceptor : hub.right.dialer;
    pair.session.close(new FairleadError('INTERRUPTED', 'the line dropped'));
    hub.run();
    expect(told).toMatchObject({ code: 'INTERRUPTED', details: { reset: 'SESSION_LOST' } });
    expect(pair.session.streamCount).toBe(0);
  });

  test('a session that takes no stream refuses it at once', async () => {
    const hub = new Hub();
    hub.right.dialer.session.close(new FairleadError('INTERRUPTED', 'the line dropped'));
    const opening = MuxChannel.open(hub.left.dialer.session, {});
    hub.run();
    await expect(opening).rejects.toMatchObject({ code: 'INTERRUPTED' });
  });

  test('an operator that gives up while the agent still connects ends both', async () => {
    const hub = new Hub();
    const abort = new AbortController();
    const opening = MuxChannel.open(hub.left.dialer.session, {}, { signal: abort.signal });
    hub.run();
    const far = new Recorder();
    hub.right.acceptor.offers[0]?.stream.attach(far);
    abort.abort(new FairleadError('CANCELLED', 'enough'));
    hub.run();
    await expect(opening).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(far.events).toEqual(['reset 1 the opener gave up']);
    expect(hub.streamCount).toBe(0);
  });
});
