/**
 * Symptom: an operator who gave guests credit for 16 MiB on each of 2,048 streams and read nothing made the hub hold all of it.
 * Cause: the hub passed credit on as it was and counted nothing of what waited for a session.
 */
import { expect, test } from 'vitest';
import { MemoryPool } from '../../shared/mux/pool.ts';
import { type RelayOutcome, relayStream } from '../../shared/mux/relay.ts';
import { RESET_CODES } from '../../shared/mux/reset-codes.ts';
import type { RawStream } from '../../shared/mux/stream-handler.ts';
import { MuxPair } from '../support/mux-pair.ts';

const ROOM = 256 * 1024;
const CREDIT = 16 * 1024 * 1024;
const ignore = { onData() {}, onFin() {}, onReset() {} };

/** Operator, hub, host: `open` gives the host's end of a new stream. */
function throughHub() {
  const pool = new MemoryPool(ROOM);
  const left = new MuxPair({ acceptor: { pool } });
  const right = new MuxPair();
  const outcomes: RelayOutcome[] = [];
  const open = (): RawStream => {
    left.dialer.session.open({}, ignore, CREDIT);
    left.run();
    for (const { stream, meta } of left.acceptor.offers.splice(0)) {
      const fromPool = left.acceptor.session.pool;
      relayStream({ from: stream, to: right.dialer.session, fromPool, meta, onEnd: (outcome) => outcomes.push(outcome) });
    }
    right.run();
    const offer = right.acceptor.offers.pop();
    if (offer === undefined) throw new Error('the stream did not arrive');
    offer.stream.attach(ignore);
    offer.stream.accept({}, 0);
    right.run();
    left.run();
    return offer.stream;
  };
  return { pool, left, right, outcomes, open };
}

test('what waits in a hub for an end that does not read is bounded, and the others go on', () => {
  const { pool, left, right, outcomes, open } = throughHub();
  const [flood, quiet] = [open(), open()];
  for (let sent = 0; sent < 4 * ROOM; sent += 16_384) {
    flood.send(new Uint8Array(16_384));
    right.run();
    expect(pool.usedBytes).toBeLessThanOrEqual(ROOM);
  }
  expect(outcomes).toMatchObject([{ reset: { code: RESET_CODES.LIMIT } }]);
  expect(pool.usedBytes, 'what was dropped is given back').toBe(0);

  quiet.send(new Uint8Array(1000));
  right.run();
  expect(pool.usedBytes).toBe(1000);
  left.run();
  expect(pool.usedBytes, 'so is what has left').toBe(0);
});

test('what still waits when both ends have said their last is counted until it has left', () => {
  const { pool, left, right, open } = throughHub();
  const stream = open();
  stream.send(new Uint8Array(1000));
  stream.fin();
  right.run();
  expect(pool.usedBytes).toBe(1000);
  left.run();
  expect(pool.usedBytes).toBe(0);
});
