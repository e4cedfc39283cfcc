/**
 * Symptom: of 2,000 streams opened into a ready guest 1,586 were refused with "nothing listens on vsock port 7", while streams to that port
 * were open.
 * Cause: a guest's kernel refuses what its program has no room for in its queue (listen(2)) in the words in which it refuses a port where
 * nothing listens, and the agent took the one for the other.
 */
import { PassThrough } from 'node:stream';
import { expect, test } from 'vitest';
import type { VsockDevice } from '../../agent/streams/transport.ts';
import { type OpenStreamRequest, openStream } from '../../agent/vm/open-stream.ts';
import type { Session } from '../../agent/vm/session.ts';
import { StreamRegistry } from '../../agent/vm/stream-registry.ts';
import { FairleadError } from '../../shared/errors.ts';

const PORT = 7;
const REFUSALS = 3;

/** A guest that is ready, whose program takes one connection and refuses so many after it. */
function guestThatRefuses(refusals: number) {
  let [taken, refused] = [0, 0];
  const streams = new StreamRegistry();
  const device = {
    state: { kind: 'vhost-user' },
    halfClose: false,
    connect: async () => {
      if (taken > 0 && refused < refusals) {
        refused += 1;
        throw new FairleadError('GUEST_REFUSED', 'guest web refused vsock port 7: nothing listens there');
      }
      taken += 1;
      return new PassThrough();
    },
  };
  const session = { device, vm: 'web', streams, generation: 1, signal: new AbortController().signal };
  const open = (connectTimeoutMs: number) => {
    const request: Omit<OpenStreamRequest, 'session'> = {
      maxStreams: 10,
      whyNoDevice: () => '',
      port: PORT,
      connectTimeoutMs,
      signal: undefined,
      vm: () => ({ name: 'web', state: 'running', ready: true, readyPort: 1023 }),
      consoleTail: () => '',
    };
    // SAFETY: all that opening a stream asks of a session.
    return openStream({ ...request, session: session as unknown as Session & { device: VsockDevice } });
  };
  return { open, refused: () => refused };
}

test('a stream to a port that others are open to is tried again when the guest refuses it', async () => {
  const guest = guestThatRefuses(REFUSALS);
  await guest.open(60_000);
  await expect(guest.open(60_000)).resolves.toMatchObject({ generation: 1 });
  expect(guest.refused()).toBe(REFUSALS);
});

test('and is refused in the end, with how many are open', async () => {
  const guest = guestThatRefuses(Number.POSITIVE_INFINITY);
  await guest.open(60_000);
  await expect(guest.open(100)).rejects.toMatchObject({
    code: 'GUEST_REFUSED',
    message: expect.stringContaining('vsock port 7 of VM web took no connection beyond the 1 that are open within 100 ms'),
  });
});

test('a refusal is final once no stream to that port is open', async () => {
  const guest = guestThatRefuses(Number.POSITIVE_INFINITY);
  const { stream } = await guest.open(60_000);
  const closed = new Promise((resolve) => stream.once('close', resolve));
  stream.destroy();
  await closed;
  await expect(guest.open(60_000)).rejects.toMatchObject({
    code: 'GUEST_REFUSED',
    message: expect.stringContaining('nothing listens on vsock port 7 of VM web'),
  });
  expect(guest.refused()).toBe(1);
});
