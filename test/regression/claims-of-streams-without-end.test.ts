/**
 * A token that says of thousands of streams that it held them at another hub, with one session after the other: each was kept for a minute,
 * with some 2 KiB, and nothing bounded how many.
 */
import { expect, it } from 'vitest';
import { hostOwner, MAX_CLAIMS, operatorOwner, RelayBook } from '../../hub/relay/relay-book.ts';
import { FairleadError } from '../../shared/errors.ts';
import { FRAME } from '../../shared/mux/frame.ts';
import { DEFAULT_MUX_LIMITS, GRACE_MS, WIRE } from '../../shared/mux/limits.ts';
import type { StreamKey } from '../../shared/mux/numbers.ts';
import { readReset, writeHello } from '../../shared/mux/payload.ts';
import { RESET_CODES } from '../../shared/mux/reset-codes.ts';
import { type ListedEntry, writeResumes } from '../../shared/mux/resume-entry.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { framesOf, MuxSide, SESSION_ID, TEST_HELLO } from '../support/mux-pair.ts';

/** As many as a session may have. */
const EACH = 2048;
const ENOUGH = MAX_CLAIMS / EACH;
const LIMITS = { ...DEFAULT_MUX_LIMITS, maxStreams: EACH };

/** Keys that `from` others came before. */
function keysOf(from: number): StreamKey[] {
  return Array.from({ length: EACH }, (_, index) => Buffer.alloc(WIRE.streamKeyBytes, `${from + index} `).toString('base64url'));
}

class Attack {
  readonly clock = new FakeClock();
  readonly book = new RelayBook({ clock: this.clock });

  /** A session that claims the streams, and is gone again. Returns how many were beyond the limit. */
  claim(as: { token: string } | { host: string }, keys: readonly StreamKey[], sessionId = SESSION_ID): number {
    const side: MuxSide = new MuxSide(
      'acceptor',
      {
        onResume: (stream, said) => {
          const hello = side.session.peerHello;
          const owner = 'token' in as ? operatorOwner(as.token, hello) : hostOwner(as.host, hello);
          this.book.take({ stream, said, owner, pool: side.session.pool, onNew: () => {}, hooks: {} });
        },
      },
      LIMITS,
    );
    const { maxFrameBytes, maxMessageBytes, initialWindowBytes, maxStreams } = LIMITS;
    const limits = { maxFrameBytes, maxMessageBytes, initialWindowBytes, maxStreams };
    const session = { id: sessionId, key: SESSION_ID, epoch: 0, resume: true };
    side.session.receive(writeHello({ protocol: 1, limits, ...TEST_HELLO, session }));
    const entries = keys.map(
      (key, index): ListedEntry => ({
        streamId: 2 * index + 1,
        round: 1,
        received: 0,
        acked: 0,
        limit: initialWindowBytes,
        end: false,
        done: false,
        key,
      }),
    );
    for (const frame of writeResumes(entries, maxMessageBytes)) side.session.receive(frame);
    if (side.closedWith !== undefined) throw side.closedWith;
    const resets = framesOf(side.pullAll(Number.POSITIVE_INFINITY)).filter(({ type }) => type === FRAME.RESET);
    side.session.lose(new FairleadError('INTERRUPTED', 'gone again'));
    return resets.filter((frame) => readReset(frame).code === RESET_CODES.LIMIT).length;
  }
}

it('streams that nobody else knows are kept for an account up to a limit, and others are not kept out', () => {
  const attack = new Attack();
  const { book, clock } = attack;
  const id = (number: number): string => Buffer.alloc(WIRE.streamKeyBytes, number).toString('base64url');
  const refused = Array.from({ length: ENOUGH + 2 }, (_, round) =>
    attack.claim({ token: 'stolen' }, keysOf(round * EACH), id(round)),
  );
  expect(refused).toEqual([...Array.from({ length: ENOUGH }, () => 0), EACH, EACH]);
  expect(book.heldCount).toBe(MAX_CLAIMS);
  expect(attack.claim({ token: 'honest' }, keysOf(100 * EACH), id(100))).toBe(0);
  // Whose other end comes is no claim any more.
  expect(attack.claim({ host: 'h1' }, keysOf(0), id(101))).toBe(0);
  expect(attack.claim({ token: 'stolen' }, keysOf(101 * EACH), id(102))).toBe(0);
  clock.advance(GRACE_MS);
  expect([book.heldCount, clock.pendingTimers]).toEqual([0, 0]);
  expect(attack.claim({ token: 'stolen' }, keysOf(200 * EACH), id(103))).toBe(0);
});
