/** How much is on its way on a hop: the other end is a queue that takes so many bytes a millisecond. */
import { describe, expect, test } from 'vitest';
import { Flight } from '../../shared/line/flight.ts';

const KIB = 1024;
const MESSAGE_BYTES = 16 * KIB;

/** A way of `delayMs` each, behind which a program reads; it may be away now and then. */
function way(place: { readonly bytesPerMs: number; delayMs: number }) {
  const { bytesPerMs } = place;
  let nowMs = 0;
  let value = 0;
  let freeAt = 0;
  let sentBytes = 0;
  const flight = new Flight(() => nowMs);
  const answers: { readonly at: number; readonly value: number }[] = [];
  let longestMs = 0;
  flight.asked(0);
  answers.push({ at: 2 * place.delayMs, value: 0 });
  /** For `ms`, while the reader is away for the last `awayMs` of each `everyMs`. Bytes that went out. */
  const run = (ms: number, awayMs = 0, everyMs = 100): number => {
    const before = sentBytes;
    for (const endMs = nowMs + ms; nowMs < endMs; nowMs += 0.25) {
      for (let answer = answers[0]; answer !== undefined && answer.at <= nowMs; answer = answers[0]) {
        answers.shift();
        flight.answered(answer.value);
      }
      for (;;) {
        if (flight.isDue()) {
          flight.asked(++value);
          const readAt = Math.max(freeAt, nowMs) + place.delayMs;
          const isAway = readAt % everyMs >= everyMs - awayMs;
          answers.push({ value, at: (isAway ? (Math.floor(readAt / everyMs) + 1) * everyMs : readAt) + place.delayMs });
        }
        if (flight.roomBytes <= 0) break;
        flight.sent(MESSAGE_BYTES);
        sentBytes += MESSAGE_BYTES;
        freeAt = Math.max(freeAt, nowMs) + MESSAGE_BYTES / bytesPerMs;
      }
      longestMs = Math.max(longestMs, freeAt - nowMs);
    }
    return sentBytes - before;
  };
  /** The longest that something waited since the last look, the way itself not counted. */
  const waited = (): number => {
    const was = longestMs;
    longestMs = 0;
    return was;
  };
  const asked = (): number => value;
  /** That may be on its way. */
  const mostBytes = (): number => 4 * flight.messageBytes;
  return { flight, run, waited, asked, mostBytes };
}

function bytesAnAnswer({ run, asked }: ReturnType<typeof way>): number {
  const before = asked();
  return run(1_000) / (asked() - before);
}

describe('what is on its way', () => {
  test.each([
    ['1 Mbit/s', 125, 20],
    ['100 Mbit/s', 12_500, 1],
    ['100 Mbit/s over a continent', 12_500, 40],
    ['10 Gbit/s', 1_250_000, 0.5],
  ])('fills a line of %s and waits little for it', (_, bytesPerMs, delayMs) => {
    const { run, waited } = way({ bytesPerMs, delayMs });
    run(4_000);
    waited();
    // Not the whole time: now and then the way is measured anew.
    expect(run(8_000)).toBeGreaterThan(0.8 * 8_000 * Math.min(bytesPerMs, (16 * 1024 * KIB) / (2 * delayMs + 1)));
    expect(waited()).toBeLessThan(10 + delayMs + (2 * 32 * KIB) / bytesPerMs);
  });

  test('is more where the reader is away at times, so that the line does not idle as long', () => {
    const { run } = way({ bytesPerMs: 12_500, delayMs: 0.5 });
    run(4_000, 20);
    expect(run(4_000, 20)).toBeGreaterThan(0.75 * 4_000 * 12_500);
  });

  test('is little again when the reader is there again', () => {
    const { run, waited } = way({ bytesPerMs: 12_500, delayMs: 0.5 });
    run(4_000, 20);
    run(4_000);
    waited();
    run(4_000);
    expect(waited()).toBeLessThan(10);
  });

  test('takes what a reader finds in its kernel after it was away for no rate of the line', () => {
    const { run, waited } = way({ bytesPerMs: 12_500, delayMs: 0.5 });
    run(2_000);
    waited();
    run(8_000, 8);
    expect(waited()).toBeLessThan(8);
  });

  test.each([
    ['100 Mbit/s', 12_500, 0.5, 4],
    ['2 Gbit/s', 250_000, 0.1, 1.5],
    ['16 Gbit/s', 2_000_000, 0.05, 1.5],
  ])('fills a short way of %s, and a call waits little for it', (_, bytesPerMs, delayMs, waitsMs) => {
    const { run, waited } = way({ bytesPerMs, delayMs });
    run(2_000);
    waited();
    expect(run(2_000)).toBeGreaterThan(0.9 * 2_000 * bytesPerMs);
    expect(waited()).toBeLessThan(waitsMs);
  });

  test('is 256 KiB at least on a fast line, for a reader that has become slow to answer', () => {
    const { run } = way({ bytesPerMs: 60_000, delayMs: 0.1 });
    run(2_000);
    run(1_000, 3.75, 4);
    expect(run(2_000, 3.75, 4)).toBeGreaterThan(0.8 * 2_000 * 60_000);
  });

  test('asks eight times for all that may be on its way, and on a fast line, where an answer costs what a message does, twice', () => {
    const slow = way({ bytesPerMs: 12_500, delayMs: 20 });
    slow.run(5_000);
    const fast = way({ bytesPerMs: 600_000, delayMs: 0.1 });
    fast.run(5_000);
    expect(bytesAnAnswer(slow)).toBeLessThan(slow.mostBytes() / 8 + MESSAGE_BYTES);
    expect(bytesAnAnswer(fast)).toBeGreaterThan(fast.mostBytes() / 2 - MESSAGE_BYTES);
  });

  test('follows a shortest time that has become longer', () => {
    const place = { bytesPerMs: 12_500, delayMs: 1 };
    const { run } = way(place);
    run(3_000);
    place.delayMs = 30;
    run(25_000);
    expect(run(4_000)).toBeGreaterThan(0.5 * 4_000 * 12_500);
  });

  test('takes the shortest time anew after a second, since both programs may have been busy when they began', () => {
    const place = { bytesPerMs: 12_500, delayMs: 2 };
    const { run, waited } = way(place);
    place.delayMs = 0.1;
    run(1_500);
    waited();
    run(1_000);
    // 2 ms, the round trip and the end of a message.
    expect(waited()).toBeLessThan(2 + 0.2 + MESSAGE_BYTES / 12_500);
  });

  test('measures a short way by four answers, of which the first may come late', () => {
    let nowMs = 0;
    let value = 0;
    const flight = new Flight(() => nowMs);
    const fill = (): void => {
      while (flight.roomBytes > 0) flight.sent(MESSAGE_BYTES);
    };
    /** All that is on its way is read, and told so after `tookMs`. */
    const answer = (tookMs: number): void => {
      expect(flight.isDue()).toBe(true);
      flight.asked(++value);
      nowMs += tookMs;
      flight.answered(value);
    };
    fill();
    answer(0.5);
    nowMs = 1_200;
    fill();
    answer(1);
    for (const tookMs of [3.5, 0.5, 0.5, 0.5]) {
      expect(flight.roomBytes).toBe(0);
      answer(tookMs);
    }
    const roomBytes = flight.roomBytes;
    expect(roomBytes).toBeGreaterThan(0);
    // Late for a way of 0.5 ms, though not for one of 3.5: what may be on its way gets less.
    fill();
    answer(3.6);
    expect(flight.roomBytes).toBeLessThan(roomBytes);
  });

  test('lets streams that have little to send go while the others wait, up to as much again', () => {
    const flight = new Flight(() => 0);
    while (flight.roomBytes > 0) flight.sent(MESSAGE_BYTES);
    const room = flight.sparseRoomBytes;
    expect(room).toBeGreaterThan(32 * KIB);
    flight.sent(room);
    expect(flight.sparseRoomBytes).toBe(0);
  });

  test('asks no more while sixteen answers are due, however much goes out that waits for nothing', () => {
    const flight = new Flight(() => 0);
    let asked = 0;
    for (let text = 0; text < 1_000; text++) {
      flight.sent(256 * KIB);
      if (flight.isDue()) flight.asked(++asked);
    }
    expect(asked).toBe(16);
    flight.answered(16);
    expect(flight.isDue()).toBe(true);
  });

  test('is free again after an answer that came for several questions', () => {
    const flight = new Flight(() => 0);
    while (flight.roomBytes > 0) {
      flight.sent(64 * KIB);
      if (flight.isDue()) flight.asked(1);
    }
    expect(flight.roomBytes).toBeLessThanOrEqual(0);
    if (flight.isDue()) flight.asked(2);
    flight.answered(99);
    expect(flight.roomBytes).toBeLessThanOrEqual(0);
    flight.answered(1);
    expect(flight.roomBytes).toBeGreaterThan(0);
  });
});
