/**
 * The stream of `stream.listen`: one line of JSON for each connection that the guest makes. It ends the subscription when its reader ends
 * or is gone, and fails when the subscription is over. What is written to it means nothing.
 */
import { Duplex } from 'node:stream';
import type { GuestPorts, Subscriber } from './guest-ports.ts';

/** Lines are short; a reader that takes none of so many has gone. */
const MAX_UNREAD_BYTES = 256 * 1024;

/** @throws FairleadError as GuestPorts.subscribe does */
export async function openSubscription(
  ports: GuestPorts,
  wanted: { readonly vm: string; readonly port: number; readonly replace: boolean },
): Promise<Duplex> {
  const stream = new SubscriptionStream();
  const subscription = await ports.subscribe(wanted, stream.subscriber);
  stream.once('close', () => subscription[Symbol.dispose]());
  return stream;
}

class SubscriptionStream extends Duplex {
  readonly subscriber: Subscriber = {
    onDialled: (dialled) => {
      if (this.readableLength > MAX_UNREAD_BYTES) this.destroy();
      else this.push(`${JSON.stringify(dialled)}\n`);
    },
    onEnd: (error) => void this.destroy(error),
  };

  constructor() {
    // Its reader has ended its half: nobody listens any more.
    super({ allowHalfOpen: false });
    this.once('finish', () => this.push(null));
  }

  override _read(): void {}

  override _write(_chunk: Uint8Array, _encoding: string, callback: () => void): void {
    callback();
  }
}
