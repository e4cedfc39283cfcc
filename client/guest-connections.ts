/**
 * Connections that a guest makes to its host, as an operator gets them: a subscription (`stream.listen`) tells of each, and `stream.accept`
 * fetches it as a stream like any other.
 *
 * The subscription is itself a stream and lives through broken lines. Where it is lost for good (the agent was started again, the hub was
 * away for too long) it is made anew; what the guest dialled meanwhile was reset.
 */
import * as v from 'valibot';
import { Backoff } from '../shared/backoff.ts';
import { toFairleadError } from '../shared/errors.ts';
import type { MuxChannel } from '../shared/mux/channel.ts';
import { GuestDialled } from '../shared/protocol/methods-streams.ts';
import type { HubClient, OpenLimits } from './hub-client.ts';
import { pause } from './pause.ts';
import { webStream } from './web-stream.ts';

export interface ListenTarget {
  /** The host that the VM is on, where its name alone does not say. */
  readonly host?: string | undefined;
  /** Takes the port from whoever has it; by default that is a CONFLICT. */
  readonly replace?: boolean | undefined;
  /** Ends the listening; connections that were accepted go on. */
  readonly signal?: AbortSignal | undefined;
  /** Called when the guest is heard for the first time, and again each time after the subscription was lost. */
  readonly onListening?: (() => void) | undefined;
}

export interface GuestConnection<Stream> {
  /** Generation of the VM that dialled. */
  readonly generation: number;
  /**
   * Whether one direction of it can be closed alone. Where it cannot, the guest hears of the end of ours only with that of the whole: close it
   * when it has nothing more to say.
   */
  readonly halfClose: boolean;
  /** Within 10 s of the dial. @throws FairleadError NOT_FOUND when it is gone: nobody took it in time, or the guest gave up */
  accept(limits?: OpenLimits): Promise<Stream>;
}

const RETRY_MS = { baseMs: 200, maxMs: 5_000 } as const;
/** Of one line of the subscription. */
const MAX_LINE_LENGTH = 1024;

/** @throws FairleadError what `stream.listen` is refused with, or NOT_FOUND once the VM has been deleted */
export async function* guestConnections<Stream>(
  hub: HubClient,
  { vm, port, host, replace = false, signal, onListening }: ListenTarget & { readonly vm: string; readonly port: number },
  wrap: (channel: MuxChannel) => Stream,
): AsyncGenerator<GuestConnection<Stream>, void, undefined> {
  const where = { vm, port, ...(host !== undefined && { host }) };
  const backoff = new Backoff(RETRY_MS);
  for (let isFirst = true; !isOver(signal); isFirst = false) {
    try {
      const { channel } = await hub.openChannel('stream.listen', { ...where, replace: replace && isFirst }, { signal });
      onListening?.();
      for await (const { connection, generation, halfClose } of dialled(channel, signal)) {
        yield {
          generation,
          halfClose,
          accept: async (limits) => wrap((await hub.openChannel('stream.accept', { ...where, connection }, limits)).channel),
        };
      }
      return;
    } catch (thrown) {
      if (isOver(signal)) return;
      const { code } = toFairleadError(thrown);
      if (hub.isClosed) throw thrown;
      const isLost = code === 'INTERRUPTED' || (!isFirst && (code === 'HOST_UNREACHABLE' || code === 'TIMEOUT'));
      if (!isLost) throw thrown;
      await pause(backoff.failed(), signal).catch(() => {});
    }
  }
}

function isOver(signal: AbortSignal | undefined): boolean {
  return signal?.aborted === true;
}

async function* dialled(channel: MuxChannel, signal: AbortSignal | undefined): AsyncGenerator<GuestDialled, void, undefined> {
  const { readable } = webStream(channel);
  const reader = readable.pipeThrough(new TextDecoderStream()).getReader();
  const cancel = (): void => void reader.cancel().catch(() => {});
  signal?.addEventListener('abort', cancel, { once: true });
  let rest = '';
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      const lines = (rest + part.value).split('\n');
      rest = (lines.pop() ?? '').slice(0, MAX_LINE_LENGTH);
      for (const line of lines) yield v.parse(GuestDialled, JSON.parse(line));
    }
  } finally {
    signal?.removeEventListener('abort', cancel);
    await reader.cancel().catch(() => {});
  }
}
