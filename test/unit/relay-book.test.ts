/** Whose streams a hub gives to whom after a line broke, and how those end that nobody comes back for. */
import { describe, expect, test } from 'vitest';
import { type LegOwner, RelayBook } from '../../hub/relay/relay-book.ts';
import type { MuxChannel } from '../../shared/mux/channel.ts';
import type { Side } from '../../shared/mux/relay.ts';
import { RESET_CODES } from '../../shared/mux/reset-codes.ts';
import type { ResumeEntry } from '../../shared/mux/resume-entry.ts';
import type { RawStream, StreamHandler } from '../../shared/mux/stream-handler.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { FleetSim } from '../support/fleet-sim.ts';
import { MuxPair } from '../support/mux-pair.ts';

const GRACE_MS = 60_000;

/** Operator and agent with one open stream through the hub; `ends` are its two channels, with how each ended. */
async function oneStream() {
  const ends: { channel: MuxChannel; error?: Error | undefined; isOver: boolean }[] = [];
  const add = (channel: MuxChannel): void => {
    const end: (typeof ends)[number] = { channel, isOver: false };
    ends.push(end);
    channel.attach({
      onReadable: () => {},
      onDrain: () => {},
      onClose: (error) => {
        end.error = error;
        end.isOver = true;
      },
    });
  };
  const sim = new FleetSim({ onChannel: add, graceMs: GRACE_MS });
  sim.dial('operator');
  sim.dial('agent');
  sim.settle();
  const opening = sim.open();
  sim.settle();
  add(await opening);
  return { sim, ends };
}

const resets = (ends: readonly { error?: Error | undefined }[]) => ends.map(({ error }) => error?.message);

describe('streams of a broken line', () => {
  test.each(['operator', 'agent'] as const)(
    'end with an error at both ends when the %s does not come back in time',
    async (leg) => {
      const { sim, ends } = await oneStream();
      sim.cut(leg);
      sim.settle();
      sim.clock.advance(GRACE_MS - 1);
      expect(ends.map(({ isOver }) => isOver)).toEqual([false, false]);
      sim.clock.advance(1);
      sim.settle();
      expect(resets(ends)).toEqual([expect.stringContaining('come back'), expect.stringContaining('come back')]);
      expect([sim.book.heldCount, sim.clock.pendingTimers]).toEqual([0, 0]);
    },
  );

  test('end with the code of a reset that was made while their end was away', async () => {
    const { sim, ends } = await oneStream();
    sim.cut('operator');
    ends[0]?.channel.reset(RESET_CODES.SUSPENDED, 'the VM sleeps');
    sim.settle();
    sim.dial('operator');
    sim.settle();
    expect(ends[1]?.error).toMatchObject({ code: 'STREAM_RESET', details: { reset: 'SUSPENDED' } });
  });

  test('that their owner has reset while it was away are reset at the other end, with its code', async () => {
    const { sim, ends } = await oneStream();
    sim.cut('operator');
    ends[1]?.channel.reset(RESET_CODES.CANCELLED, 'enough');
    sim.dial('operator');
    sim.settle();
    expect(ends[0]?.error).toMatchObject({ details: { reset: 'CANCELLED' } });
  });

  test('go on after a cut although the grace of the first is long over', async () => {
    const { sim, ends } = await oneStream();
    for (let cut = 0; cut < 5; cut += 1) {
      sim.cut('operator');
      sim.clock.advance(GRACE_MS / 2);
      sim.dial('operator');
      sim.settle();
    }
    ends[1]?.channel.write(Uint8Array.of(1, 2, 3));
    sim.settle();
    expect([...(ends[0]?.channel.read() ?? [])]).toEqual([1, 2, 3]);
  });
});

const KEY = 'ABCDEFGHIJKLMNOP';
const entry = (changes: Partial<ResumeEntry> = {}): ResumeEntry => ({
  key: KEY,
  round: 1,
  received: 0,
  acked: 0,
  limit: 65_536,
  end: false,
  done: false,
  ...changes,
});

/** A stream as `onResume` gives it, and what it was told. */
function returning(onAttach: (handler: StreamHandler) => void) {
  const told: string[] = [];
  const stream: RawStream = {
    id: 1,
    key: KEY,
    sendLimit: 0,
    sentBytes: 0,
    queuedBytes: 0,
    unackedBytes: 0,
    attach: (handler) => {
      told.push('attach');
      onAttach(handler);
    },
    accept: () => {},
    refuse: () => {},
    send: () => told.push('send'),
    grant: () => {},
    fin: () => {},
    reset: (code) => told.push(`reset ${code}`),
    passOn: () => {},
    resume: ({ received }) => {
      told.push(`resume ${received}`);
      return true;
    },
    abandon: () => told.push('abandon'),
  };
  return { stream, told };
}

describe('RelayBook', () => {
  const owner = (side: Side, name: string, proof = 'id/key'): LegOwner => ({ side, name, account: name, proof });
  const { pool } = new MuxPair().acceptor.session;

  function book() {
    const made = new RelayBook({ clock: new FakeClock(), graceMs: GRACE_MS });
    const handlers: StreamHandler[] = [];
    let isNew = 0;
    const take = (by: LegOwner, changes: Partial<ResumeEntry> = {}): string[] => {
      const { stream, told } = returning((handler) => handlers.push(handler));
      made.take({ stream, said: entry(changes), owner: by, pool, hooks: {}, onNew: () => (isNew += 1) });
      return told;
    };
    return { made, take, handlers, news: () => isNew };
  }

  test('joins two ends that ask for the same key, and gives each the entry of the other', () => {
    const { take, news } = book();
    const near = take(owner('near', 'token/s1'), { received: 5 });
    const far = take(owner('far', 'host-1'), { received: 7 });
    expect([near, far]).toEqual([
      ['attach', 'resume 7'],
      ['attach', 'resume 5'],
    ]);
    expect(news()).toBe(1);
  });

  test.each([
    ['another host', owner('far', 'host-2')],
    ['another process of the host', owner('far', 'host-1', 'other/key')],
    ['one that has no key', { ...owner('far', 'host-1'), proof: undefined }],
  ])('gives a leg not to %s', (_, thief) => {
    const { take } = book();
    take(owner('near', 'token/s1'));
    const far = take(owner('far', 'host-1'));
    expect(take(thief)).toEqual([`reset ${RESET_CODES.UNKNOWN_STREAM}`]);
    expect(far).not.toContain('abandon');
  });

  test('never joins two operators or two hosts', () => {
    const { take } = book();
    take(owner('near', 'token/s1'));
    expect(take(owner('near', 'token/s2'))).toEqual([`reset ${RESET_CODES.UNKNOWN_STREAM}`]);
  });

  test('lets the newest line of the same owner have the leg', () => {
    const { take } = book();
    const first = take(owner('far', 'host-1'));
    expect(take(owner('far', 'host-1'), { round: 2 })).toEqual(['attach']);
    expect(first).toContain('abandon');
  });

  test('ends at once what its owner does not ask for when it is back', () => {
    const { made, take, handlers } = book();
    const near = take(owner('near', 'token/s1'));
    take(owner('far', 'host-1'));
    handlers.at(-1)?.onLost?.();
    expect(made.heldCount).toBe(1);
    made.released(owner('far', 'host-2'));
    expect(made.heldCount).toBe(1);
    made.released(owner('far', 'host-1', 'a new process/key'));
    expect(near).toContain(`reset ${RESET_CODES.SESSION_LOST}`);
    expect(made.heldCount).toBe(0);
  });
});
