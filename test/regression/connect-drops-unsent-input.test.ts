/**
 * Symptom: `fairlead connect` on a transport without half-close ended with 0 though the guest had not taken all of its input, and
 * `forward` and `listen` closed on such a guest without a word.
 * Cause: the idle time ran from the end of standard input, however much of that still waited for the guest.
 */
import { Duplex, PassThrough } from 'node:stream';
import { expect, onTestFinished, test, vi } from 'vitest';
import { joinLocal } from '../../cli/join-local.ts';
import { joinTerminal } from '../../cli/join-terminal.ts';

const IDLE_MS = 40;

function joined(taken: (done: () => void) => void): { ended: Promise<void>; stream: Duplex } {
  const streams = { stdin: new PassThrough(), stdout: new PassThrough(), stderr: new PassThrough() };
  const stream = new Duplex({ read: () => {}, write: (_chunk, _encoding, done) => taken(done) });
  const ended = joinTerminal({ env: {}, streams, signal: new AbortController().signal, exitCode: 0 }, stream, {
    guestIdleMs: IDLE_MS,
    inputIdleMs: 0,
    takeMs: 2 * IDLE_MS,
  });
  streams.stdin.write('one');
  streams.stdin.end('two');
  return { ended, stream };
}

test('a guest that takes its input slowly gets all of it', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  onTestFinished(() => void vi.useRealTimers());
  let count = 0;
  const { ended } = joined((done) => {
    count += 1;
    setTimeout(done, IDLE_MS * 1.2);
  });
  await vi.advanceTimersByTimeAsync(IDLE_MS * 10);
  await ended;
  expect(count).toBe(2);
});

test('a guest that takes no more of it is told as such', async () => {
  const { ended, stream } = joined(() => {});
  await expect(ended).rejects.toMatchObject({ code: 'TIMEOUT', message: expect.stringContaining('6 bytes of the input') });
  expect(stream.destroyed).toBe(true);
});

test('a guest that takes no more of what a local program sent is told as such', async () => {
  const stream = new Duplex({ read: () => {}, write: () => {} });
  const sent = [Buffer.from('one')];
  const local = new Duplex({
    read() {
      this.push(sent.pop() ?? null);
    },
    write: (_chunk, _encoding, done) => done(),
  });
  const { signal } = new AbortController();
  await expect(joinLocal(local, stream, { idleMs: IDLE_MS, takeMs: IDLE_MS, signal })).rejects.toMatchObject({ code: 'TIMEOUT' });
});
