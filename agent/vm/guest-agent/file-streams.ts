/** Files of guests as the streams of `guest.readFile` and `guest.writeFile`. The VM counts as in use until the stream is over. */
import { Duplex, PassThrough, Readable, Writable } from 'node:stream';
import { toFairleadError } from '../../../shared/errors.ts';
import { checkDigest, withDigest } from '../../../shared/node/digest-trailer.ts';
import type { Params, Result } from '../../../shared/protocol/methods.ts';
import type { Vms } from '../api.ts';
import { type GuestFiles, openFileForWriting, openGuestFile } from './files.ts';
import { guestAgentOf } from './guest-agents.ts';

interface FileEnd<M extends 'guest.readFile' | 'guest.writeFile'> {
  readonly stream: Duplex;
  readonly halfClose: true;
  readonly result: Result<M>;
  /** What is to be done in the guest when its stream is over has been done. */
  readonly settled?: Promise<void>;
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

/** @throws FairleadError what the guest agent's client throws; GUEST_FAILED for a place that cannot be written to */
export function openFileWrite(
  vms: OperatingVms,
  params: Params<'guest.writeFile'>,
  signal: AbortSignal,
): Promise<FileEnd<'guest.writeFile'>> {
  return during(vms, 'writing a file of', { ...params, signal }, async (files) => {
    // Makes the connection, and can be given up, other than what follows.
    await files.agent.run('guest-ping', {}, files.limits);
    return { ...(await fileWriteStream(files, params)), halfClose: true, result: {} };
  });
}

/** Takes a file and its digest, and answers. `settled` when its end, whichever it was, has been made good in the guest. */
export async function fileWriteStream(
  files: GuestFiles,
  target: { readonly path: string; readonly mode: number },
): Promise<{ readonly stream: Duplex; readonly settled: Promise<void> }> {
  const file = await openFileForWriting(files, target);
  const [sent, answer] = [new PassThrough(), new PassThrough()];
  const stream = Duplex.from({ writable: sent, readable: answer });
  // Were what is sent destroyed first, its sender would not be told why.
  const settled = file.write(checkDigest(sent.iterator({ destroyOnReturn: false }))).then(
    (written) => void answer.end(`${JSON.stringify(written)}\n`),
    (error: unknown) => void answer.destroy(toFairleadError(error)),
  );
  return { stream, settled };
}

/** An operation that lasts as long as its stream, and what is to be tidied up after it. */
async function during<End extends { readonly stream: Duplex; readonly settled?: Promise<void> }>(
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
      const { promise: closed, resolve } = Promise.withResolvers<void>();
      end.stream.once('close', () => resolve());
      opened.resolve(end);
      await Promise.all([closed, end.settled]);
    })
    .catch(opened.reject);
  return opened.promise;
}

/** What is sent where nothing is expected. */
function nowhere(): Writable {
  return new Writable({ write: (_chunk, _encoding, done) => done() });
}
