/**
 * A MessageSocket over a WebSocket of the `ws` package.
 *
 * Make it right after the WebSocket, even before that is open: `ws` keeps no message for a listener that comes later, and the first one
 * may come together with the answer to the upgrade. What comes before `start` waits; `start` it when the WebSocket is open.
 */
import type { Writable } from 'node:stream';
import type { RawData, WebSocket } from 'ws';
import type { MessageSocket, MessageSocketHandlers } from '../line/message-socket.ts';
import { MAX_HEADER_BYTES, textFrame, writeBinaryHeader } from './ws-frame.ts';
import { countYoungBuffer } from './young-buffers.ts';

/** For `new WebSocketServer` and `new WebSocket` alike. */
export const WS_OPTIONS = {
  /** Bulk data is often compressed already, and a context costs hundreds of KiB a connection. */
  perMessageDeflate: false,
  /** Bytes of one message: what HELLO allows by default, for text as for binary. */
  maxPayload: 256 * 1024,
  /** Fragments of one message: this side never fragments, a proxy may. */
  maxFragments: 256,
  /** Chunks that one frame may come in. 256 KiB in TCP segments of 536 bytes are fewer than 512. */
  maxBufferedChunks: 4096,
} as const;

/** Time for the other side to answer a close frame before the connection is destroyed. */
const CLOSE_TIMEOUT_MS = 3_000;

/**
 * For `new WebSocket`: leaves the mask zero where it protects nobody, so that `ws` neither copies nor XORs. Masks protect old proxies on plain
 * connections from what a browser's script may send (RFC 6455 §10.3); under TLS no proxy reads the bytes, on loopback there is none, and this
 * is no browser.
 */
export function maskOptions(url: URL): { generateMask?: (mask: Uint8Array) => void } {
  return needsNoMask(url) ? { generateMask: (mask) => mask.fill(0) } : {};
}

function needsNoMask({ protocol, hostname }: URL): boolean {
  return protocol === 'wss:' || /^(localhost|127(\.\d+){3}|\[::1\])$/.test(hostname);
}

/** The socket under a WebSocket that was made with WS_OPTIONS, to which messages are written as whole frames. */
export interface Below {
  readonly socket: Writable;
  /** Its frames bear a mask, of zeros. */
  readonly masked: boolean;
}

export function belowServer(socket: Writable): Below {
  return { socket, masked: false };
}

/** Undefined where the masks of this client (`maskOptions`) are more than zeros. */
export function belowClient(url: URL, socket: Writable): Below | undefined {
  return needsNoMask(url) ? { socket, masked: true } : undefined;
}

/** What lies in the kernel unsent of what was written to the connection below. */
export interface KernelQueue {
  readonly bytes: number;
  /** Calls once less than `bytes` do; a second call before that is none. */
  whenBelow(bytes: number, callback: () => void): void;
}

/** `kernel` may come later, give undefined or fail where nobody can tell: the budget of the line then counts what `ws` holds, and no more. */
export function wsSocket(
  socket: WebSocket,
  below?: Below,
  kernel?: KernelQueue | Promise<KernelQueue | undefined>,
): MessageSocket {
  return new WsSocket(socket, below, kernel);
}

/**
 * Where the parts of a message are put together, behind its header; a write for each part would cost more than this copy does. A piece is
 * used again once the kernel has taken its message: what is allocated for each message anew makes the collector run all the time while a
 * fast line is full.
 */
const PIECE_BYTES = 68 * 1024;
/** Pieces that are kept for all sockets of the process. */
const MAX_SPARE_PIECES = 16;
const sparePieces: Buffer[] = [];
/** A message that begins with so long a part is not copied: that of a relay, which sends it as it came, with a PING behind it or without. */
const MIN_UNCOPIED_BYTES = 16 * 1024;
/** Each costs a call of its own: of more parts a copy costs less, and who sends them may be anybody. */
const MAX_UNCOPIED_PARTS = 4;

/** For a message of `bytes`, header included; one that is longer than a piece gets memory of its own. */
function takePiece(bytes: number): Buffer {
  if (bytes > PIECE_BYTES) return Buffer.allocUnsafeSlow(bytes);
  return sparePieces.pop() ?? Buffer.allocUnsafeSlow(PIECE_BYTES);
}

function giveBack(piece: Buffer | undefined): void {
  if (piece?.length === PIECE_BYTES && sparePieces.length < MAX_SPARE_PIECES) sparePieces.push(piece);
}

class WsSocket implements MessageSocket {
  readonly #socket: WebSocket;
  readonly #below: Below | undefined;
  #handlers: MessageSocketHandlers | undefined;
  /** What happened before `start`. */
  #early: ((handlers: MessageSocketHandlers) => void)[] = [];
  #cause = '';
  #closeTimer: NodeJS.Timeout | undefined;
  #kernel: KernelQueue | undefined;

  constructor(socket: WebSocket, below: Below | undefined, kernel: KernelQueue | Promise<KernelQueue | undefined> | undefined) {
    this.#socket = socket;
    this.#below = below;
    if (kernel instanceof Promise) this.#adopt(kernel);
    else this.#kernel = kernel;
    socket.on('message', (data: RawData, isBinary: boolean) => {
      // SAFETY: `binaryType` is left at its default, with which every message is one Buffer.
      const bytes = data as Buffer;
      if (isBinary) {
        this.#tell((handlers) => handlers.onBinary(bytes));
        countYoungBuffer(bytes.length);
      } else this.#tell((handlers) => handlers.onText(bytes.toString()));
    });
    socket.on('error', (error) => {
      this.#cause = error.message;
    });
    socket.once('close', (code: number, reason: Buffer) => {
      clearTimeout(this.#closeTimer);
      this.#tell((handlers) => handlers.onClose(code, reason.length > 0 ? reason.toString() : this.#cause));
    });
  }

  start(handlers: MessageSocketHandlers): void {
    // In a turn of its own: whoever starts a socket has not yet got what it is making on top of it.
    queueMicrotask(() => {
      for (const event of this.#early) event(handlers);
      this.#early = [];
      this.#handlers = handlers;
      this.#socket.resume();
    });
  }

  /** Node runs ticks when no promise is left to settle. */
  soon(task: () => void): void {
    queueMicrotask(() => process.nextTick(task));
  }

  get bufferedBytes(): number {
    return this.#socket.bufferedAmount + (this.#kernel?.bytes ?? 0);
  }

  drainBelow(bytes: number): void {
    // As long as Node holds something, it asks the kernel itself, and says when that was taken.
    if (this.#socket.bufferedAmount === 0) this.#kernel?.whenBelow(bytes, () => this.#onSent());
  }

  sendText(text: string): void {
    if (!this.#isOpen()) return;
    const below = this.#below;
    const frame = below && textFrame(text, below.masked);
    if (frame === undefined) this.#socket.send(text, this.#onSent);
    else below?.socket.write(frame, this.#onSent);
  }

  sendBinary(parts: readonly Uint8Array[]): void {
    if (!this.#isOpen()) return;
    const bytes = parts.reduce((sum, part) => sum + part.length, 0);
    const [first] = parts;
    const below = this.#below;
    if (first === undefined) return;
    if (below === undefined && parts.length === 1) return this.#socket.send(first, this.#onSent);
    const isCopied = first.length < MIN_UNCOPIED_BYTES || parts.length > MAX_UNCOPIED_PARTS;
    if (below === undefined || isCopied) return this.#sendCopy(parts, bytes);
    const header = Buffer.allocUnsafe(MAX_HEADER_BYTES);
    below.socket.cork();
    below.socket.write(header.subarray(0, writeBinaryHeader(header, bytes, below.masked)));
    for (const part of parts.slice(0, -1)) below.socket.write(part);
    below.socket.write(parts.at(-1), this.#onSent);
    below.socket.uncork();
  }

  #sendCopy(parts: readonly Uint8Array[], bytes: number): void {
    let spare: Buffer | undefined = takePiece(MAX_HEADER_BYTES + bytes);
    const release = (): void => {
      giveBack(spare);
      spare = undefined;
    };
    const onSent = (error?: Error | null): void => {
      release();
      this.#onSent(error);
    };
    const below = this.#below;
    const payloadAt = below === undefined ? 0 : writeBinaryHeader(spare, bytes, below.masked);
    let offset = payloadAt;
    for (const part of parts) {
      spare.set(part, offset);
      offset += part.length;
    }
    const message = spare.subarray(0, offset);
    if (below === undefined) this.#socket.send(message, onSent);
    else below.socket.write(message, onSent);
    // Taken by the kernel at once; the callback says so in a later turn, when all messages of this one would have a piece each.
    if (this.#socket.bufferedAmount === 0) release();
  }

  close(code: number, reason: string): void {
    this.#socket.close(code, reason);
    this.#closeTimer ??= setTimeout(() => this.#socket.terminate(), CLOSE_TIMEOUT_MS).unref();
  }

  terminate(): void {
    this.#socket.terminate();
  }

  #adopt(kernel: Promise<KernelQueue | undefined>): void {
    const adopt = (found?: KernelQueue): void => {
      this.#kernel = found;
    };
    // Nothing is lost that the line needs, and there is nobody here to tell.
    kernel.then(adopt, () => adopt());
  }

  #tell(event: (handlers: MessageSocketHandlers) => void): void {
    if (this.#handlers !== undefined) {
      event(this.#handlers);
    } else {
      this.#early.push(event);
      this.#socket.pause();
    }
  }

  /** A failed send is followed by `close`, which tells. */
  readonly #onSent = (error?: Error | null): void => {
    if (error === undefined || error === null) this.#handlers?.onDrain();
  };

  /** `ws` counts what is sent later as buffered for ever. */
  #isOpen(): boolean {
    return this.#socket.readyState === this.#socket.OPEN;
  }
}
