/** Raw streams over a pair of sessions: opening, credit, ends, and every way in which a peer may break the rules. */
import { describe, expect, test } from 'vitest';
import { FairleadError } from '../../shared/errors.ts';
import { RESET_CODES } from '../../shared/mux/reset-codes.ts';
import { carry, framesOf, fromHex, MuxPair, MuxSide, Recorder, toHex } from '../support/mux-pair.ts';

const WINDOW = 65_536;

/** A stream that is open at both ends. */
function openStream(pair: MuxPair, credit = WINDOW) {
  const near = new Recorder();
  const far = new Recorder();
  const stream = pair.dialer.session.open({ to: 'far' }, near, credit);
  pair.run();
  const offer = pair.acceptor.offers.at(-1);
  if (offer === undefined) throw new Error('the stream did not arrive');
  offer.stream.attach(far);
  offer.stream.accept({ ok: true }, credit);
  pair.run();
  return { stream, near, far, farStream: offer.stream };
}

/** A side that has greeted, with what it says thrown away: for a peer made of bytes. */
function greeted(role: 'dialer' | 'acceptor' = 'acceptor'): MuxSide {
  const side = new MuxSide(role);
  carry(new MuxSide(role === 'dialer' ? 'acceptor' : 'dialer'), side);
  side.pullAll();
  return side;
}

const KEY = '00112233445566778899aabbccddeeff';
const OPEN_1 = `0200001a 00000001 0000000000010000 ${KEY} 7b7d`;
const data = (streamId: number, bytes: number) =>
  `0500${bytes.toString(16).padStart(4, '0')}${streamId.toString(16).padStart(8, '0')}${'61'.repeat(bytes)}`;

describe('streams', () => {
  test('each side learns the HELLO of the other', () => {
    const pair = new MuxPair();
    expect(pair.dialer.session.peerHello).toMatchObject({ protocol: 1, contract: 1, limits: { maxFrameBytes: 16_384 } });
    expect(pair.acceptor.session.peerHello?.session.epoch).toBe(0);
  });

  test('an accepted stream carries meta both ways and has the credit that each side gave', () => {
    const { near, far, stream, farStream } = openStream(new MuxPair());
    expect(near.events).toEqual(['opened {"ok":true}']);
    expect(far.events).toEqual([]);
    expect([stream.sendLimit, farStream.sendLimit]).toEqual([WINDOW, WINDOW]);
  });

  test('the dialler gives odd ids, the acceptor even ones, never one twice', () => {
    const pair = new MuxPair();
    const ids = (side: MuxSide) => [1, 2, 3].map(() => side.session.open({}, new Recorder(), 0).id);
    expect(ids(pair.dialer)).toEqual([1, 3, 5]);
    expect(ids(pair.acceptor)).toEqual([2, 4, 6]);
  });

  test('a refusal arrives with code, message and details, and leaves nothing', () => {
    const pair = new MuxPair();
    const near = new Recorder();
    pair.dialer.session.open({}, near, WINDOW);
    pair.run();
    pair.acceptor.offers[0]?.stream.refuse(new FairleadError('GUEST_REFUSED', 'nothing listens on port 7'));
    pair.run();
    expect(near.events).toEqual(['refused GUEST_REFUSED: nothing listens on port 7']);
    expect([pair.dialer.session.streamCount, pair.acceptor.session.streamCount]).toEqual([0, 0]);
  });

  test('data goes out only after the acceptance, in order', () => {
    const pair = new MuxPair();
    const far = new Recorder();
    const stream = pair.dialer.session.open({}, new Recorder(), WINDOW);
    stream.send(fromHex('01'));
    stream.send(fromHex('02'));
    stream.fin();
    pair.run();
    const offer = pair.acceptor.offers[0];
    offer?.stream.attach(far);
    expect(far.events).toEqual([]);
    offer?.stream.accept({}, WINDOW);
    pair.run();
    expect(toHex(Buffer.concat(far.chunks))).toBe('0102');
    expect(far.events.at(-1)).toBe('fin');
  });

  test('each direction ends by itself, and the stream when both have', () => {
    const pair = new MuxPair();
    const { stream, farStream, near, far } = openStream(pair);
    stream.fin();
    pair.run();
    expect(far.events).toEqual(['fin']);
    farStream.send(fromHex('0a'));
    farStream.fin();
    pair.run();
    expect(near.events).toEqual(['opened {"ok":true}', 'data 1', 'fin']);
    // Whoever has not consumed it may still ask for it on another line.
    expect([pair.dialer.session.streamCount, pair.acceptor.session.streamCount]).toEqual([1, 1]);
    stream.grant(1000, 1);
    pair.run();
    expect([pair.dialer.session.streamCount, pair.acceptor.session.streamCount]).toEqual([0, 0]);
  });

  test('a reset ends both directions and drops what is queued', () => {
    const pair = new MuxPair();
    const { stream, farStream, near, far } = openStream(pair);
    stream.send(new Uint8Array(5000));
    stream.reset(RESET_CODES.SUSPENDED, 'the VM sleeps');
    farStream.send(new Uint8Array(5000));
    pair.run();
    expect(far.events).toEqual(['reset 9 the VM sleeps']);
    expect(near.events).toEqual(['opened {"ok":true}']);
    expect([pair.dialer.session.streamCount, pair.acceptor.session.streamCount]).toEqual([0, 0]);
    expect(pair.dialer.closedWith).toBeUndefined();
  });

  test('an opener that gives up before the answer leaves nothing, and the late answer does no harm', () => {
    const pair = new MuxPair();
    const far = new Recorder();
    const stream = pair.dialer.session.open({}, new Recorder(), WINDOW);
    pair.run();
    pair.acceptor.offers[0]?.stream.attach(far);
    stream.reset(RESET_CODES.CANCELLED, '');
    pair.acceptor.offers[0]?.stream.accept({}, WINDOW);
    pair.run();
    expect(far.events).toEqual(['reset 1']);
    expect([pair.dialer.session.streamCount, pair.acceptor.session.streamCount]).toEqual([0, 0]);
    expect([pair.dialer.closedWith, pair.acceptor.closedWith]).toEqual([undefined, undefined]);
  });

  test('nobody sends beyond its credit, and more credit lets the rest out', () => {
    const pair = new MuxPair();
    const { stream, farStream, far, near } = openStream(pair, 100);
    stream.send(new Uint8Array(250));
    pair.run();
    expect(far.bytes).toBe(100);
    farStream.grant(200, 100);
    pair.run();
    expect(far.bytes).toBe(200);
    expect(near.events.at(-1)).toBe('credit 200 100');
    expect(stream.queuedBytes).toBe(50);
  });

  test('the last frame within the credit says so', () => {
    const pair = new MuxPair();
    const exhausted: boolean[] = [];
    const { stream, farStream } = openStream(pair, 20_000);
    farStream.attach({ onData: (_, last) => exhausted.push(last), onFin: () => {}, onReset: () => {} });
    stream.send(new Uint8Array(30_000));
    pair.run();
    expect(exhausted).toEqual([false, true]);
  });

  test('ten grants in one turn are one WINDOW frame', () => {
    const pair = new MuxPair();
    const { farStream } = openStream(pair);
    for (let step = 1; step <= 10; step += 1) farStream.grant(WINDOW + step, 0);
    expect(pair.acceptor.pullAll()?.length).toBe(8 + 16);
  });

  test('control frames go before data, wherever they were queued', () => {
    const pair = new MuxPair();
    const { stream } = openStream(pair);
    stream.send(new Uint8Array(10_000));
    pair.dialer.session.ping();
    const message = pair.dialer.pullAll();
    expect(message?.[0]).toBe(0x09);
    expect(message?.[16]).toBe(0x05);
  });

  test('a newly active stream passes those that have sent their share', () => {
    const pair = new MuxPair();
    const bulk = [openStream(pair), openStream(pair), openStream(pair)];
    const key = openStream(pair);
    for (const { stream } of bulk) stream.send(new Uint8Array(60_000));
    pair.dialer.pullAll(20_000);
    key.stream.send(fromHex('0d'));
    // The bulk streams that have sent nothing yet are as new as the key press; it comes before any of the others goes on.
    const order = [...framesOf(pair.dialer.pullAll(20_000)), ...framesOf(pair.dialer.pullAll(40_000))].map(
      ({ streamId }) => streamId,
    );
    expect(order.indexOf(key.stream.id)).toBeLessThan(4);
    expect(order.filter((id) => id !== key.stream.id).length).toBeGreaterThanOrEqual(3);
  });

  test('bulk streams share evenly', () => {
    const pair = new MuxPair();
    const streams = Array.from({ length: 8 }, () => openStream(pair));
    // Messages are short from here on, and with them what each may send in its turn.
    carry(pair.dialer, pair.acceptor, 16_392);
    for (const { stream } of streams) stream.send(new Uint8Array(WINDOW));
    for (let message = 0; message < 16; message += 1) carry(pair.dialer, pair.acceptor, 16_392);
    const sent = streams.map(({ stream }) => stream.sentBytes);
    expect(Math.max(...sent) - Math.min(...sent)).toBeLessThanOrEqual(2 * 16_384);
  });

  test('a stream that is never read holds up no other', () => {
    const pair = new MuxPair();
    const stalled = openStream(pair);
    const other = openStream(pair);
    stalled.stream.send(new Uint8Array(10 * WINDOW));
    other.stream.send(new Uint8Array(WINDOW));
    pair.run();
    expect([stalled.far.bytes, other.far.bytes]).toEqual([WINDOW, WINDOW]);
  });

  test('the round trip is measured on the clock that was given', () => {
    const pair = new MuxPair();
    pair.dialer.session.ping();
    carry(pair.dialer, pair.acceptor);
    pair.dialer.nowMs += 40;
    carry(pair.acceptor, pair.dialer);
    expect(pair.dialer.session.rttMs).toBe(40);
  });

  test('GOAWAY stops new streams in that direction and leaves the open ones', () => {
    const goAways: unknown[] = [];
    const pair = new MuxPair({ dialer: { onGoAway: (goAway) => goAways.push(goAway) } });
    const { stream, far } = openStream(pair);
    const crossing = new Recorder();
    pair.acceptor.session.goAway({ code: 0, drainMs: 30_000, spreadMs: 5_000, reason: 'restart' });
    pair.dialer.session.open({}, crossing, WINDOW);
    pair.run();
    expect(goAways).toEqual([{ code: 0, lastId: 1, drainMs: 30_000, spreadMs: 5_000, reason: 'restart' }]);
    expect(crossing.events[0]).toMatch(/^refused INTERRUPTED/);
    expect(() => pair.dialer.session.open({}, new Recorder(), 0)).toThrow(expect.objectContaining({ code: 'INTERRUPTED' }));
    expect(() => pair.acceptor.session.open({}, new Recorder(), 0)).not.toThrow();
    stream.send(fromHex('01'));
    pair.run();
    expect(far.bytes).toBe(1);
  });

  test('streams beyond maxStreams are refused, on the opening side without asking', () => {
    const pair = new MuxPair({ limits: { maxStreams: 2 } });
    openStream(pair);
    const second = openStream(pair);
    expect(() => pair.dialer.session.open({}, new Recorder(), 0)).toThrow(expect.objectContaining({ code: 'LIMIT_EXCEEDED' }));
    second.stream.reset(1, '');
    pair.run();
    openStream(pair);
    expect(pair.acceptor.session.streamCount).toBe(2);
  });

  test('closing tells every stream, open, opening or offered, once', () => {
    const pair = new MuxPair();
    const open = openStream(pair);
    const opening = new Recorder();
    pair.dialer.session.open({}, opening, 0);
    pair.run();
    pair.dialer.session.close(new FairleadError('INTERRUPTED', 'cut'));
    pair.dialer.session.close(new FairleadError('INTERNAL', 'later'));
    expect(open.near.events.at(-1)).toBe('reset 11 cut');
    expect(opening.events).toEqual(['reset 11 cut']);
    expect(pair.dialer.closedWith?.message).toBe('cut');
    expect(pair.dialer.session.streamCount).toBe(0);
    expect(() => pair.dialer.session.open({}, new Recorder(), 0)).toThrow(expect.objectContaining({ code: 'INTERRUPTED' }));
  });

  test('a handler that throws closes the session with what it threw', () => {
    const pair = new MuxPair();
    const { stream, farStream } = openStream(pair);
    farStream.attach({
      onData: () => {
        throw new Error('handler fault');
      },
      onFin: () => {},
      onReset: () => {},
    });
    stream.send(fromHex('01'));
    pair.run();
    expect(pair.acceptor.closedWith).toMatchObject({ code: 'INTERNAL', message: 'handler fault' });
  });
});

describe('violations', () => {
  const cases: readonly [string, string, string, RegExp][] = [
    ['an empty message', '', 'PROTOCOL_ERROR', /without a frame/],
    ['a second HELLO', '01000002 00000000 7b7d', 'PROTOCOL_ERROR', /HELLO frame .* is not the first frame/],
    ['an id of the wrong parity', `0200001a 00000002 0000000000010000 ${KEY} 7b7d`, 'PROTOCOL_ERROR', /for this side to give/],
    ['the same id twice', `${OPEN_1} ${OPEN_1}`, 'PROTOCOL_ERROR', /ids only rise/],
    ['a lower id', `0200001a 00000003 0000000000010000 ${KEY} 7b7d ${OPEN_1}`, 'PROTOCOL_ERROR', /ids only rise/],
    ['a first window beyond 16 MiB', `0200001a 00000001 0000000001000001 ${KEY} 7b7d`, 'PROTOCOL_ERROR', /16777216 are allowed/],
    ['data before the acceptance', `${OPEN_1} ${data(1, 1)}`, 'PROTOCOL_ERROR', /which is offered/],
    ['a FIN before the acceptance', `${OPEN_1} 07000008 00000001 0000000000000000`, 'PROTOCOL_ERROR', /which is offered/],
    ['an answer to our own offer', `${OPEN_1} 0300000a 00000001 0000000000010000 7b7d`, 'PROTOCOL_ERROR', /which is offered/],
    ['a DATA frame longer than HELLO allows', data(1, 16_385), 'PROTOCOL_ERROR', /HELLO allows 16384/],
  ];

  test.each(cases)('%s closes the session', (_, hex, code, message) => {
    const side = greeted();
    side.receiveHex(hex);
    expect(side.closedWith).toMatchObject({ code });
    expect(side.closedWith?.message).toMatch(message);
  });

  test('anything before HELLO closes the session', () => {
    const side = new MuxSide('acceptor');
    side.receiveHex(OPEN_1);
    expect(side.closedWith?.message).toBe('OPEN frame at byte 0 of the message came before HELLO');
  });

  /** A side with stream 1 open and 10 bytes of credit given. */
  function accepted(): { side: MuxSide; recorder: Recorder } {
    const side = greeted();
    side.receiveHex(OPEN_1);
    const recorder = new Recorder();
    side.offers[0]?.stream.attach(recorder);
    side.offers[0]?.stream.accept({}, 10);
    side.pullAll();
    return { side, recorder };
  }

  test('data beyond the credit closes the session with FLOW_CONTROL, and none of it is handed over', () => {
    const { side, recorder } = accepted();
    side.receiveHex(data(1, 11));
    expect(side.closedWith).toMatchObject({ code: 'FLOW_CONTROL', details: { stream: 1, offset: 11, limit: 10 } });
    expect(recorder.events).toEqual([expect.stringMatching(/^reset 11/)]);
  });

  const openCases: readonly [string, string, RegExp][] = [
    ['data after FIN', `07000008 00000001 0000000000000000 ${data(1, 1)}`, /ended already by a FIN/],
    ['a second FIN', '07000008 00000001 0000000000000000 07000008 00000001 0000000000000000', /ended already by a FIN/],
    ['a FIN at another offset', `${data(1, 3)} 07000008 00000001 0000000000000004`, /ends stream 1 at 4, but 3 bytes came/],
    ['credit taken back', '06000010 00000001 000000000000ffff 0000000000000000', /takes credit of stream 1 back/],
    ['credit beyond 16 MiB', '06000010 00000001 0000000001000001 0000000000000000', /opens a window of 16777217 bytes/],
    ['acknowledging what was not sent', '06000010 00000001 0000000000020000 0000000000000001', /of which 0 was sent/],
  ];

  test.each(openCases)('%s closes the session', (_, hex, message) => {
    const { side } = accepted();
    side.receiveHex(hex);
    expect(side.closedWith?.code).toBe('PROTOCOL_ERROR');
    expect(side.closedWith?.message).toMatch(message);
  });

  test('the same credit again is no violation', () => {
    const { side } = accepted();
    side.receiveHex('06000010 00000001 0000000000010000 0000000000000000'.repeat(3));
    expect(side.closedWith).toBeUndefined();
  });

  test('data for ids that never were is answered by one RESET each, and by the end when there are too many', () => {
    const side = greeted();
    side.receiveHex(`${data(9, 1)} ${data(9, 1)} ${data(10, 1)}`);
    const answer = toHex(side.pullAll() ?? new Uint8Array());
    expect(answer.match(/08000[0-9a-f]{3}000000(09|0a)0000000c/g)).toHaveLength(2);
    for (let id = 11; id < 80; id += 1) side.receiveHex(data(id, 1));
    expect(side.closedWith?.message).toMatch(/one of too many that were never opened/);
  });

  test('a PING flood closes the session, a burst after a pause does not', () => {
    const side = greeted();
    const ping = '09000008 00000000 0000000000000000';
    side.receiveHex(ping.repeat(64));
    expect(side.pullAll()?.length).toBe(8 * 16);
    side.nowMs += 1000;
    side.receiveHex(ping.repeat(10));
    expect(side.closedWith).toBeUndefined();
    side.receiveHex(ping.repeat(64));
    expect(side.closedWith).toMatchObject({ code: 'LIMIT_EXCEEDED', message: expect.stringMatching(/ping frames/) });
  });

  test('opening and resetting without end closes the session', () => {
    const side = greeted();
    for (let id = 1; side.closedWith === undefined && id < 100_000; id += 2) {
      const hexId = id.toString(16).padStart(8, '0');
      side.receiveHex(`0200001a ${hexId} 0000000000000000 ${KEY} 7b7d 08000004 ${hexId} 00000001`);
    }
    expect(side.closedWith).toMatchObject({ code: 'LIMIT_EXCEEDED' });
    expect(side.session.streamCount).toBeLessThanOrEqual(1);
  });

  test('a peer that makes this side answer and never reads is cut off', () => {
    const side = new MuxSide('acceptor', {}, { maxControlQueueBytes: 2000, maxStreams: 0 });
    carry(new MuxSide('dialer'), side);
    for (let id = 1; side.closedWith === undefined && id < 1000; id += 2) {
      side.receiveHex(`0200001a ${id.toString(16).padStart(8, '0')} 0000000000000000 ${KEY} 7b7d`);
    }
    expect(side.closedWith).toMatchObject({ code: 'LIMIT_EXCEEDED', message: expect.stringMatching(/does not read/) });
  });

  test('frames after the one that broke the rules are not looked at', () => {
    const side = greeted();
    side.receiveHex(`0d000000 00000000 ${OPEN_1}`);
    side.receiveHex(OPEN_1);
    expect(side.offers).toEqual([]);
    expect(side.session.pull(65_536)).toBeUndefined();
  });
});
