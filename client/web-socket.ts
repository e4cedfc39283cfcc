/**
 * A MessageSocket over the WebSocket that browsers have (and Node, as a global). It says how much waits in it but not when that has gone,
 * so it is looked at while something waits.
 */
import type { MessageSocket, MessageSocketHandlers } from '../shared/line/message-socket.ts';

/** How often, in milliseconds, while bytes wait. */
const LOOK_MS = 5;
/** Time for the other side to answer a close frame. */
const CLOSE_TIMEOUT_MS = 3_000;

/** `socket` is open and has said nothing yet: wrap it in the turn of its `open` event. */
export function webSocketMessages(socket: WebSocket): MessageSocket {
  return new BrowserSocket(socket);
}

class BrowserSocket implements MessageSocket {
  readonly #socket: WebSocket;
  #handlers: MessageSocketHandlers | undefined;
  /** What happened before `start`. */
  #early: ((handlers: MessageSocketHandlers) => void)[] = [];
  #looking = false;
  #isClosed = false;

  constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.binaryType = 'arraybuffer';
    socket.addEventListener('message', ({ data }: { readonly data: unknown }) => {
      if (this.#isClosed) return;
      this.#tell((handlers) => {
        if (typeof data === 'string') handlers.onText(data);
        else if (data instanceof ArrayBuffer) handlers.onBinary(new Uint8Array(data));
      });
    });
    socket.addEventListener('close', ({ code, reason }) => this.#closed(code, reason), { once: true });
  }

  start(handlers: MessageSocketHandlers): void {
    // In a turn of its own: whoever starts a socket has not yet got what it is making on top of it.
    queueMicrotask(() => {
      for (const event of this.#early) event(handlers);
      this.#early = [];
      this.#handlers = handlers;
    });
  }

  /** Among what settles promises: a page has nothing behind that but other turns. */
  soon(task: () => void): void {
    queueMicrotask(task);
  }

  get bufferedBytes(): number {
    return this.#socket.bufferedAmount;
  }

  sendText(text: string): void {
    if (!this.#isOpen) return;
    this.#socket.send(text);
    this.#look();
  }

  sendBinary(parts: readonly Uint8Array[]): void {
    if (parts.length === 0 || !this.#isOpen) return;
    this.#socket.send(joined(parts));
    this.#look();
  }

  close(code: number, reason: string): void {
    // A page may close with 1000 or with codes of its own alone (WebSockets Standard, `close`).
    this.#socket.close(code === 1000 ? 1000 : APPLICATION_CODES + code, reason);
    setTimeout(() => this.#closed(1006, 'the other side did not answer the close'), CLOSE_TIMEOUT_MS);
  }

  terminate(): void {
    this.#socket.close();
    this.#closed(1006, '');
  }

  /** A browser waits for the other side's answer, for as long as it likes; the line does not. */
  #closed(code: number, reason: string): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#tell((handlers) => handlers.onClose(code, reason));
  }

  #look(): void {
    if (this.#looking) return;
    this.#looking = true;
    const before = this.#socket.bufferedAmount;
    setTimeout(() => {
      this.#looking = false;
      if (!this.#isOpen) return;
      const waiting = this.#socket.bufferedAmount;
      if (waiting < before || waiting === 0) this.#handlers?.onDrain();
      if (waiting > 0) this.#look();
    }, LOOK_MS);
  }

  #tell(event: (handlers: MessageSocketHandlers) => void): void {
    if (this.#handlers === undefined) this.#early.push(event);
    else event(this.#handlers);
  }

  get #isOpen(): boolean {
    return this.#socket.readyState === this.#socket.OPEN;
  }
}

/** 3000 to 4999 are free for applications (RFC 6455 §7.4.2): 4001 stands for 1001. */
const APPLICATION_CODES = 3000;

function joined(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    bytes.set(part, offset);
    offset += part.length;
  }
  return bytes;
}
