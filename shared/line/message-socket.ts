/**
 * What the line needs of a WebSocket: whole messages in order, both ways. `shared/node/ws-socket.ts` makes one of a `ws` WebSocket;
 * tests make pairs in memory.
 *
 * Handlers are set once, before any message can arrive, and never throw. After `onClose` nothing is called any more.
 */
export interface MessageSocketHandlers {
  onText(text: string): void;
  /** The bytes belong to the receiver from here on. */
  onBinary(bytes: Uint8Array): void;
  /** The socket took more of what was sent: `bufferedBytes` fell. */
  onDrain(): void;
  /** Called exactly once. `code` as in RFC 6455 §7.4.1; 1006 when the line dropped without a close frame. */
  onClose(code: number, reason: string): void;
}

export interface MessageSocket {
  start(handlers: MessageSocketHandlers): void;
  sendText(text: string): void;
  /** The parts make one binary message. The caller does not touch them afterwards. */
  sendBinary(parts: readonly Uint8Array[]): void;
  /**
   * Run `task` in this turn of the event loop, behind all that settles promises in it where the platform can: an answer on its way through a
   * program takes several of their turns, and would wait behind each message of bulk data that is sent between two of them.
   */
  soon(task: () => void): void;
  /** Bytes sent that the kernel has not taken yet; those too that it has not sent yet, where the platform can tell. */
  readonly bufferedBytes: number;
  /** Call `onDrain` once less than `bytes` are buffered, for the part of it that lies in the kernel too. */
  drainBelow?(bytes: number): void;
  /** Closing handshake; the socket is destroyed if the peer does not answer in time. */
  close(code: number, reason: string): void;
  /** Destroy at once. */
  terminate(): void;
}
