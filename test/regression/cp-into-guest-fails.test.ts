/**
 * Symptom: `fairlead cp` to a directory that is not there said STREAM_RESET and half a path; one that was interrupted while its input was silent
 * left its `.part` in the guest for ever, and the file open in the guest's agent.
 * Cause: the file was opened after the stream had been answered; and the generator that took what was sent hung on the next chunk when its stream
 * was destroyed.
 */
import { once } from 'node:events';
import { expect, test } from 'vitest';
import { GuestAgentClient } from '../../agent/vm/guest-agent/client.ts';
import { fileWriteStream } from '../../agent/vm/guest-agent/file-streams.ts';
import { FairleadError } from '../../shared/errors.ts';
import { fakeGuestAgent } from '../support/fake-guest-agent.ts';

const MODE = 0o644;
const limits = { signal: new AbortController().signal, remainingMs: 20_000 };

/** A guest whose disk does what `faults` says, and what was asked of it. */
function guest(faults: Readonly<Record<string, string>> = {}) {
  const asked: string[] = [];
  const answer = (name: string, value: unknown) => (args: Readonly<Record<string, unknown>>) => {
    asked.push(name === 'guest-exec' ? `exec ${String((args['arg'] as unknown[])[1])}` : name);
    const fault = faults[name];
    if (fault !== undefined) throw new Error(fault.replace('PATH', String(args['path'])));
    return value;
  };
  const { options } = fakeGuestAgent((agent) =>
    agent.serve({
      'guest-file-open': answer('guest-file-open', 7),
      'guest-file-write': answer('guest-file-write', { count: 4, eof: false }),
      'guest-file-flush': answer('guest-file-flush', {}),
      'guest-file-close': answer('guest-file-close', {}),
      'guest-exec': answer('guest-exec', { pid: 9 }),
      'guest-exec-status': () => ({ exited: true, exitcode: 0 }),
    }),
  );
  return { asked, files: { vm: 'web', agent: new GuestAgentClient(options), limits } };
}

test('a place that cannot be written to is told before anything is sent, with its path and the reason of the guest', async () => {
  const path = `/nowhere/${'a'.repeat(600)}/big`;
  for (const [place, why] of [
    ['/nowhere/big', 'No such file or directory'],
    [path, 'Permission denied'],
  ] as const) {
    const { files, asked } = guest({ 'guest-file-open': `failed to open file 'PATH' (mode: 'wb'): ${why}` });
    const failed = fileWriteStream(files, { path: place, mode: MODE });
    await expect(failed).rejects.toMatchObject({
      code: 'GUEST_FAILED',
      message: expect.stringMatching(new RegExp(`^could not write .*/big in VM web: ${why}$`)),
    });
    expect(asked).toEqual(['guest-file-open']);
  }
});

test('a disk that fills up is told with the path, and nothing is left', async () => {
  const { files, asked } = guest({ 'guest-file-write': 'failed to write to file: No space left on device' });
  const { stream, settled } = await fileWriteStream(files, { path: '/srv/big', mode: MODE });
  const failed = once(stream, 'error');
  stream.write(Buffer.alloc(1024 ** 2));
  expect(await failed).toMatchObject([{ message: 'could not write /srv/big in VM web: No space left on device' }]);
  await settled;
  expect(asked).toEqual(['guest-file-open', 'guest-file-write', 'guest-file-close', 'exec rm -f "$1"']);
});

test('a copy that is given up while its sender is silent closes its file and removes it', async () => {
  const { files, asked } = guest();
  const { stream, settled } = await fileWriteStream(files, { path: '/srv/big', mode: MODE });
  stream.on('error', () => {});
  stream.write('half');
  stream.destroy(new FairleadError('CANCELLED', 'the copy was interrupted'));
  await settled;
  expect(asked).toEqual(['guest-file-open', 'guest-file-close', 'exec rm -f "$1"']);
});
