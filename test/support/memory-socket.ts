/**
 * Two MessageSockets joined in memory. A message arrives in a microtask of its own; `hold()` keeps messages back as a slow kernel would
 * (they count as buffered), `cut()` drops the line without a word, `mute()` swallows what is sent from then on.
 */
import type { MessageSocket, MessageSocketHandlers } from '../../shared/line/message-socket.ts';

type Message = string | Uint8Array;

export class MemorySocket implements MessageSocket {
  other!: MemorySocket;
  /** What was sent, in order: texts as they are, binary messages as bytes. */
  readonly sent: Message[] = [];
  closedWith: { code: number; reason: string } | undefined;
  terminated = false;
  #handlers: MessageSocketHandlers | undefined;
  #held: Message[] | undefined;
  #muted = false;
  #over = false;

  get bufferedBytes(): number {
    return (this.#held ?? []).reduce((sum, message) => sum + message.length, 0);
  }

  start(handlers: MessageSocketHandlers): void {
    this.#handlers = handlers;
  }

  soon(task: () => void): void {
    queueMicrotask(() => process.nextTick(task));
  }

  sendText(text: string): void {
    this.#send(text);
  }

  sendBinary(parts: readonly Uint8Array[]): void {
    this.#send(new Uint8Array(Buffer.concat(parts)));
  }

  close(code: number, reason: string): void {
    this.closedWith ??= { code, reason };
    queueMicrotask(() => {
      this.other.end(code, reason);
      this.end(code, reason);
    });
  }

  terminate(): void {
    this.terminated = true;
    this.cut();
  }

  cut(): void {
    queueMicrotask(() => {
      this.other.end(1006, '');
      this.end(1006, '');
    });
  }

  hold(): void {
    this.#held ??= [];
  }

  /** Lets `count` held messages go, all by default; with all gone, nothing is held any more. */
  release(count = Number.POSITIVE_INFINITY): void {
    const going = this.#held?.splice(0, count) ?? [];
    if (count === Number.POSITIVE_INFINITY) this.#held = undefined;
    for (const message of going) this.#deliver(message);
    this.#handlers?.onDrain();
  }

  mute(): void {
    this.#muted = true;
  }

  end(code: number, reason: string): void {
    if (this.#over) return;
    this.#over = true;
    this.#handlers?.onClose(code, reason);
  }

  take(message: Message): void {
    if (this.#over) return;
    if (typeof message === 'string') this.#handlers?.onText(message);
    else this.#handlers?.onBinary(message);
  }

  #send(message: Message): void {
    this.sent.push(message);
    if (this.#held === undefined) this.#deliver(message);
    else this.#held.push(message);
  }

  #deliver(message: Message): void {
    if (!this.#muted) queueMicrotask(() => this.other.take(message));
  }
}

export function memorySockets(): [MemorySocket, MemorySocket] {
  const a = new MemorySocket();
  const b = new MemorySocket();
  a.other = b;
  b.other = a;
  return [a, b];
}
