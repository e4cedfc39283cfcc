/**
 * Symptom: a host that asked again and again for a stream made the hub close its operator's line: "FIN ends stream 21 at 4, but 0 bytes came".
 * Cause: where control frames did not all fit into a message, data went out in it all the same. It came ahead of the entry (or OPEN_OK) from
 * which it counts, and was dropped, or broke the protocol.
 */
import { expect, it } from 'vitest';
import { carry, MuxPair, Recorder } from '../support/mux-pair.ts';

const SMALL_MESSAGE_BYTES = 40;
const SLOW_LINE_BYTES = 16_392;
const STREAMS = 600;
const WINDOW_BYTES = 65_536;

it('data waits for the OPEN_OK of its stream, however small the messages are', () => {
  const { dialer, acceptor } = new MuxPair();
  const recorder = new Recorder();
  dialer.session.open({}, recorder, WINDOW_BYTES);
  dialer.session.open({}, new Recorder(), WINDOW_BYTES);
  carry(dialer, acceptor);
  for (const { stream } of acceptor.offers) stream.accept({ some: 'meta' }, WINDOW_BYTES);
  acceptor.offers.at(-1)?.stream.send(Buffer.from('x'));

  while (carry(acceptor, dialer, SMALL_MESSAGE_BYTES));
  expect(dialer.closedWith).toBeUndefined();
});

it('data of many streams whose other ends ask again waits for their entries on a slow line', () => {
  const { dialer: end, acceptor: hub } = new MuxPair();
  const opened = Array.from({ length: STREAMS }, () => end.session.open({}, new Recorder(), WINDOW_BYTES));
  carry(end, hub);
  const got = new Map<number, string>();
  for (const { stream } of hub.offers) {
    const { id } = stream;
    const onData = (data: Uint8Array): unknown => got.set(id, (got.get(id) ?? '') + Buffer.from(data).toString());
    stream.attach({ relays: true, onData, onFin() {}, onReset() {} });
    stream.accept({}, WINDOW_BYTES);
  }
  while (carry(end, hub) || carry(hub, end));

  for (const stream of opened.toReversed()) stream.send(Buffer.from('all'));
  const asks = { round: 1, received: 0, acked: 0, limit: WINDOW_BYTES, end: false, done: false };
  for (const { stream } of hub.offers) stream.resume({ ...asks, key: stream.key });
  while (carry(hub, end) || carry(end, hub, SLOW_LINE_BYTES));
  expect(hub.closedWith).toBeUndefined();
  expect([...got.values()].filter((text) => text === 'all')).toHaveLength(STREAMS);
});
