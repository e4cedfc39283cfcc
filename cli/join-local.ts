/** A connection of this machine joined to a stream of a guest, and how such a stream is opened with patience. */
import type { Duplex } from 'node:stream';
import type { Hub, OpenedStream } from '../client/index.ts';
import { toFairleadError } from '../shared/errors.ts';
import { joinDuplex } from '../shared/node/join-duplex.ts';
import type { OperatorParams } from '../shared/protocol/operator.ts';
import { IdleTimer } from './idle-timer.ts';
import { openStream } from './open-stream.ts';

/** After these nothing was sent into the guest yet, and the next line may bring the answer. */
const WORTH_ANOTHER: readonly string[] = ['INTERRUPTED', 'HOST_UNREACHABLE', 'CONNECT_FAILED'];
const RETRY_MS = 250;

/** Opens a stream, again where a line broke meanwhile, for as long as the guest may take. */
export async function openPatiently(
  hub: Hub,
  params: OperatorParams<'stream.open'> & { readonly connectTimeoutMs: number },
  signal: AbortSignal,
): Promise<OpenedStream> {
  const endsAt = performance.now() + params.connectTimeoutMs;
  for (;;) {
    try {
      return await openStream(hub, 'stream.open', params, { signal, timeoutMs: 0 });
    } catch (error) {
      signal.throwIfAborted();
      const isOver = performance.now() + RETRY_MS >= endsAt;
      if (isOver || !WORTH_ANOTHER.includes(toFairleadError(error).code)) throw error;
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

/**
 * Settles when both have ended. A local program that closes cannot be told from one that ends its half. Where the guest cannot be told of a half's end
 * either, `idleMs` bounds how long it is waited for after that (IdleTimer).
 */
export async function joinLocal(
  local: Duplex,
  stream: Duplex,
  { idleMs, takeMs, signal }: { readonly idleMs: number | undefined; readonly takeMs?: number; readonly signal: AbortSignal },
): Promise<void> {
  let isIdle = false;
  const idle =
    idleMs === undefined
      ? undefined
      : new IdleTimer(stream, { idleMs, takeMs }, (error) => {
          isIdle = error === undefined;
          stream.destroy(error);
        });
  local.once('end', () => idle?.start());
  try {
    await joinDuplex(local, stream, { signal });
  } catch (error) {
    if (!isIdle) throw error;
  } finally {
    idle?.stop();
  }
}
