/**
 * Symptom: a host made a stream of an operator stand for ever, with its memory: neither an end nor an error came.
 * Cause: DONE was believed of an end whose FIN had not come, so that the stream was forgotten before it had ended.
 */
import { expect, it } from 'vitest';
import { MuxChannel } from '../../shared/mux/channel.ts';
import { FLAG } from '../../shared/mux/frame.ts';
import { writeWindow } from '../../shared/mux/payload.ts';
import { writeResume } from '../../shared/mux/resume-entry.ts';
import { carry, framesOf, MuxPair } from '../support/mux-pair.ts';

async function endedHere(): Promise<{ pair: MuxPair; channel: MuxChannel; closed: (string | undefined)[] }> {
  const pair = new MuxPair();
  const opening = MuxChannel.open(pair.dialer.session, {});
  pair.run();
  pair.acceptor.offers[0]?.stream.accept({}, 65_536);
  pair.run();
  const channel = await opening;
  const closed: (string | undefined)[] = [];
  channel.attach({ onReadable() {}, onDrain() {}, onClose: (error) => closed.push(error?.code) });
  channel.end();
  carry(pair.dialer, pair.acceptor);
  expect(framesOf(pair.acceptor.pullAll()).some(({ flags }) => (flags & FLAG.DONE) !== 0)).toBe(false);
  return { pair, channel, closed };
}

const OPEN = { limit: 65_536, acked: 0, end: true, done: true };

it('WINDOW with DONE ends the session where the FIN of its sender has not come', async () => {
  const { pair, channel, closed } = await endedHere();
  pair.dialer.session.receive(writeWindow(channel.id, OPEN));
  expect(pair.dialer.closedWith).toMatchObject({ code: 'PROTOCOL_ERROR', message: expect.stringContaining('says DONE') });
  expect(closed).toEqual(['INTERRUPTED']);
  expect(pair.dialer.session.pool.usedBytes).toBe(0);
});

it('an entry of RESUME that says so ends its stream', async () => {
  const { pair, channel, closed } = await endedHere();
  const { id: streamId, key } = channel;
  pair.dialer.session.receive(writeResume([{ ...OPEN, round: 1, received: 0, streamId, key }], false));
  expect(pair.dialer.closedWith).toBeUndefined();
  expect(closed).toEqual(['STREAM_RESET']);
  expect(pair.dialer.session.pool.usedBytes).toBe(0);
});
