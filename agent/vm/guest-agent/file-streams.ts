/** Files of guests as the streams of `guest.readFile` and `guest.writeFile`. The VM counts as in use until the stream is over. */
import { Duplex, Readable, Writable } from 'node:stream';
import { checkDigest, withDigest } from '../../../shared/node/digest-trailer.ts';
import type { Params, Result } from '../../../shared/protocol/methods.ts';
import type { Vms } from '../api.ts';
import { type GuestFiles, openGuestFile, writeGuestFile } from './files.ts';
import { guestAgentOf } from './guest-agents.ts';

interface FileEnd<M extends 'guest.readFile' | 'guest.writeFile'> {
  readonly stream: Duplex;
  readonly halfClose: true;
  readonly result: Result<M>;
}

type OperatingVms = Pick<Vms, 'operate'>;

/** @throws FairleadError what the guest agent's client throws; GUEST_FAILED for a file that cannot be read */
export function openFileRead(
  vms: OperatingVms,
  params: Params<'guest.readFile'>,
  signal: AbortSignal,
): Promise<FileEnd<'guest.readFile'>> {
  return during(vms, 'reading a file of', { ...params, signal }, async (files) => {
    const { sizeBytes, chunks } = await openGuestFile(files, params.path);
    const stream = Duplex.from({ readable: Readable.from(withDigest(chunks), { objectMode: false }), writable: nowhere() });
    return { stream, halfClose: true, result: { sizeBytes } };
  });
}

/** @throws FairleadError what the guest agent's client throws */
export function openFileWrite(
  vms: OperatingVms,
  params: Params<'guest.writeFile'>,
  signal: AbortSignal,
): Promise<FileEnd<'guest.writeFile'>> {
  return during(vms, 'writing a file of', { ...params, signal }, async (files) => {
    // Makes the connection, so that a guest without an agent is told before anything is sent.
    await files.agent.run('guest-ping', {}, files.limits);
    const stream = Duplex.from(async function* (sent: AsyncIterable<Uint8Array>) {
      const written = await writeGuestFile(files, params, checkDigest(sent));
      yield Buffer.from(`${JSON.stringify(written)}\n`);
    });
    return { stream, halfClose: true, result: {} };
  });
}

/** An operation that lasts as long as its stream. */
async function during<End extends { readonly stream: Duplex }>(
  vms: OperatingVms,
  doing: string,
  about: { readonly vm: string; readonly answerTimeoutMs: number; readonly signal: AbortSignal },
  open: (files: GuestFiles) => Promise<End>,
): Promise<End> {
  const { vm: name, answerTimeoutMs, signal } = about;
  const opened = Promise.withResolvers<End>();
  const operation = { doing, inTurn: false, states: ['running'], wakes: true } as const;
  const limits = { signal, timeoutMs: Number.POSITIVE_INFINITY };
  vms
    .operate(name, operation, limits, async (vm, deadline) => {
      const end = await open({
        vm: name,
        agent: guestAgentOf(vm),
        limits: { signal: deadline.signal, remainingMs: answerTimeoutMs },
      });
      const { promise: over, resolve } = Promise.withResolvers<void>();
      end.stream.once('close', () => resolve());
      opened.resolve(end);
      await over;
    })
    .catch(opened.reject);
  return opened.promise;
}

/** What is sent where nothing is expected. */
function nowhere(): Writable {
  return new Writable({ write: (_chunk, _encoding, done) => done() });
}
