/**
 * Symptom: two hosts made an operator's line end: "the peer floods the line with streams frames".
 * Cause: the hub passed each entry of RESUME on, of whatever round, so that what two hosts may say in a second was more than one line bears.
 * An end begins a round on a new line and at no other time.
 */
import { expect, it } from 'vitest';
import { FLOOD } from '../../shared/mux/limits.ts';
import { relayStream } from '../../shared/mux/relay.ts';
import { writeResume } from '../../shared/mux/resume-entry.ts';
import { carry, MuxPair, Recorder } from '../support/mux-pair.ts';

const WINDOW_BYTES = 65_536;
const HALF = FLOOD.streams.burst / 2;

it('rounds that hosts begin on lines that stand are not passed on to an operator', () => {
  const operator = new MuxPair();
  const hosts = [new MuxPair(), new MuxPair()];
  for (const host of hosts) {
    operator.dialer.session.open({}, new Recorder(), WINDOW_BYTES);
    operator.run();
    // SAFETY: it was opened a line above.
    const { stream: from, meta } = operator.acceptor.offers.at(-1)!;
    relayStream({ from, to: host.acceptor.session, meta });
    host.run();
    host.dialer.offers[0]?.stream.accept({}, WINDOW_BYTES);
    host.run();
    operator.run();
  }
  for (const { dialer, acceptor } of hosts) {
    // SAFETY: as above.
    const { id: streamId, key } = dialer.offers[0]!.stream;
    for (let round = 1; round <= HALF + 1; round++) {
      const entry = { streamId, key, round, received: 0, acked: 0, limit: WINDOW_BYTES, end: false, done: false };
      acceptor.session.receive(writeResume([entry], false));
      while (carry(operator.acceptor, operator.dialer) || carry(operator.dialer, operator.acceptor));
    }
    expect(acceptor.closedWith).toBeUndefined();
  }
  expect(operator.dialer.closedWith).toBeUndefined();
  expect(operator.dialer.session.streamCount).toBe(0);
});
