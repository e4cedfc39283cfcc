/**
 * A hub that takes messages of 8 KiB, the least that HELLO may say: the entries of 147 streams were a frame that fits into none, and nothing
 * behind it went out.
 */
import { expect, it } from 'vitest';
import { FairleadError } from '../../shared/errors.ts';
import { MemoryPool } from '../../shared/mux/pool.ts';
import { StreamTable } from '../../shared/mux/stream-table.ts';
import { carry, MuxSide, Recorder, SESSION_ID, TEST_HELLO } from '../support/mux-pair.ts';

const MESSAGE_BYTES = 8192;
const STREAMS = 300;
const LOST = new FairleadError('INTERRUPTED', 'the line broke');

it('RESUME is cut to the messages that the other side takes', () => {
  const held = new StreamTable({ role: 'dialer', pool: new MemoryPool(64 * 1024 * 1024) });
  const session = { id: SESSION_ID, key: SESSION_ID, epoch: 0 };
  const first = new MuxSide('dialer', { held, hello: { ...TEST_HELLO, session } });
  const before = new MuxSide('acceptor', { onOpen: (stream) => stream.accept({}, 65_536) });
  carry(first, before);
  carry(before, first);
  for (let stream = 0; stream < STREAMS; stream++) first.session.open({}, new Recorder(), 65_536);
  while (carry(first, before) || carry(before, first));
  first.session.lose(LOST);

  const next = new MuxSide('dialer', { held, hello: { ...TEST_HELLO, session: { ...session, resume: true } } });
  const resumed: string[] = [];
  const hub = new MuxSide(
    'acceptor',
    {
      hello: { ...TEST_HELLO, session: { id: SESSION_ID, epoch: 0, resume: true } },
      onResume: (_stream, entry) => resumed.push(entry.key),
    },
    { maxMessageBytes: MESSAGE_BYTES },
  );
  carry(hub, next);
  for (let message = next.pullAll(MESSAGE_BYTES); message !== undefined; message = next.pullAll(MESSAGE_BYTES)) {
    expect(message.length).toBeLessThanOrEqual(MESSAGE_BYTES);
    hub.session.receive(message);
  }
  expect(hub.closedWith).toBeUndefined();
  expect(new Set(resumed).size).toBe(STREAMS);
});
