/**
 * What goes to the socket next: control frames, then RPC text, then data, as long as little waits in the socket (Pacer), and data as long
 * as little of it is on its way (Flight): less for bulk than for streams that have little to send.
 *
 * Packing is by availability, never by time: all that one turn of the event loop made ready leaves in one go at its end, but for text, which
 * leaves at once; and more goes when the socket has drained. Text that never ends lets data through now and then.
 */
import { FairleadError } from '../errors.ts';
import { MESSAGE_BYTES, SCRAP_BYTES } from '../mux/limits.ts';
import type { MuxSession } from '../mux/session.ts';
import { Flight } from './flight.ts';
import type { MessageSocket } from './message-socket.ts';
import { Pacer } from './pacer.ts';

const MIN_MESSAGE_BYTES = 16 * 1024 + 8;
/** What a message has beyond what it is to have: a scrap that is not left behind, a PING, and the header of its WebSocket frame. */
const EXTRA_BYTES = SCRAP_BYTES + 16 + 14;
/** Room for the shortest message of bulk data: what waits of it is at no time more than the budget. Text and control frames may exceed it by one message. */
const BULK_ROOM_BYTES = MIN_MESSAGE_BYTES + EXTRA_BYTES;
/** The same of streams that have little to send. */
const SPARSE_ROOM_BYTES = 2 * 1024 + EXTRA_BYTES;
/** Room for the longest, and for the headers of those that have been sent since anybody looked. */
const AMPLE_ROOM_BYTES = 2 * MESSAGE_BYTES;
/** Bytes of text in a row after which one message of data may pass. */
const TEXT_RUN_BYTES = 256 * 1024;
/** UTF-16 units of text that may wait: a peer that asks for more and reads none of it is cut off. */
const MAX_TEXT_QUEUE = 16 * 1024 * 1024;
/** The same, from which on no progress is added: a third side may say how much there is of it. */
const MAX_PROGRESS_QUEUE = 4 * 1024 * 1024;

export class Outbox {
  readonly #socket: MessageSocket;
  readonly #mux: MuxSession;
  readonly #now: () => number;
  readonly #pacer = new Pacer();
  readonly #flight: Flight;
  #texts: string[] = [];
  #textLength = 0;
  #textRun = 0;
  #sentBytes = 0;
  /** What waited when the socket was asked last, and what had been sent by then. */
  #lastWaiting = 0;
  #lastSentBytes = 0;
  #scheduled = false;
  #stopped = false;

  constructor(socket: MessageSocket, mux: MuxSession, now: () => number) {
    this.#socket = socket;
    this.#mux = mux;
    this.#now = now;
    this.#flight = new Flight(now);
  }

  /** A PING goes out with the next message. */
  asked(value: number): void {
    this.#flight.asked(value);
  }

  /** The other side has read what went before the PING. */
  answered(value: number): void {
    this.#flight.answered(value);
    this.schedule();
  }

  /** Throws LIMIT_EXCEEDED when too much waits. */
  pushText(text: string): void {
    if (this.#stopped) return;
    if (this.#textLength + text.length > MAX_TEXT_QUEUE) {
      throw new FairleadError(
        'LIMIT_EXCEEDED',
        `more than ${MAX_TEXT_QUEUE} characters of messages wait for a peer that does not read`,
      );
    }
    this.#texts.push(text);
    this.#textLength += text.length;
    // At once: a call is worth more to its caller than its place in a message with others.
    this.flush();
  }

  /** Throws LIMIT_EXCEEDED when too much waits for that, though not for an answer. */
  pushProgress(text: string): void {
    if (this.#textLength + text.length > MAX_PROGRESS_QUEUE) {
      throw new FairleadError(
        'LIMIT_EXCEEDED',
        `there is more progress than is read: ${MAX_PROGRESS_QUEUE} characters of messages wait`,
      );
    }
    this.pushText(text);
  }

  /** The socket took more of what was sent: after each call, mostly when there is no more. */
  drained(): void {
    if (this.#texts.length > 0 || !this.#mux.isIdle) this.schedule();
  }

  /** Something is ready. */
  schedule(): void {
    if (this.#scheduled || this.#stopped) return;
    this.#scheduled = true;
    this.#socket.soon(() => {
      this.#scheduled = false;
      this.flush();
    });
  }

  /** Send as much as the socket should have. */
  flush(): void {
    for (let hasSentData = false; !this.#stopped; ) {
      const room = this.#roomBytes();
      if (room <= 0) return this.#awaitRoom();
      if (this.#flight.isDue()) this.#mux.ping();
      // So it is after each call, and to look for a message costs more.
      if (this.#texts.length === 0 && this.#mux.isIdle) return;
      // More may follow before the next turn, and take it along.
      if (hasSentData && this.#texts.length === 0 && this.#mux.hasLeftover) return this.schedule();
      const { dataBytes } = this.#mux;
      if (!this.#sendNext(room)) return room < BULK_ROOM_BYTES ? this.#awaitRoom() : undefined;
      hasSentData ||= this.#mux.dataBytes > dataBytes;
    }
  }

  /** Nothing is sent from here on. */
  stop(): void {
    this.#stopped = true;
    this.#texts = [];
  }

  /** Asks the socket only where what has been sent since the last time may have used up the room: the kernel's answer has its price. */
  #roomBytes(): number {
    const mostWaiting = this.#lastWaiting + this.#sentBytes - this.#lastSentBytes;
    const leastRoom = this.#pacer.budgetBytes - mostWaiting;
    if (leastRoom >= AMPLE_ROOM_BYTES) return leastRoom;
    const waiting = this.#socket.bufferedBytes;
    this.#lastWaiting = waiting;
    this.#lastSentBytes = this.#sentBytes;
    this.#pacer.observe(this.#now(), this.#sentBytes - waiting, waiting > 0);
    return this.#pacer.budgetBytes - waiting;
  }

  /** Something is left to send, and too much waits already. */
  #awaitRoom(): void {
    const { budgetBytes } = this.#pacer;
    this.#socket.drainBelow?.(Math.min(budgetBytes / 2, budgetBytes - BULK_ROOM_BYTES));
  }

  #sendNext(room: number): boolean {
    const hasPlace = room >= BULK_ROOM_BYTES;
    const dataRoom = Math.min(room, this.#flight.roomBytes);
    // Text that never ends would leave room for itself alone.
    if (!hasPlace && dataRoom > 0 && this.#textRun >= TEXT_RUN_BYTES && !this.#mux.isIdle) return false;
    const limit = this.#messageBytes(dataRoom);
    const mayGo = hasPlace && dataRoom > 0 ? 'all' : this.#maySparseGo(room);
    const textFirst = this.#texts.length > 0 && (this.#textRun < TEXT_RUN_BYTES || mayGo === 'none');
    const { dataBytes } = this.#mux;
    const parts = this.#mux.pull(limit, textFirst ? 'none' : mayGo, Math.min(MESSAGE_BYTES, room - EXTRA_BYTES));
    if (!textFirst) this.#textRun = 0;
    if (parts === undefined) return this.#sendText();
    this.#flight.sent(this.#mux.dataBytes - dataBytes);
    if (this.#mux.dataBytes > dataBytes && this.#flight.isDue()) parts.push(this.#mux.takePing());
    this.#sentBytes += parts.reduce((sum, part) => sum + part.length, 0);
    this.#socket.sendBinary(parts);
    return true;
  }

  #maySparseGo(room: number): 'none' | 'sparse' {
    return room >= SPARSE_ROOM_BYTES && this.#flight.sparseRoomBytes > 0 ? 'sparse' : 'none';
  }

  #messageBytes(room: number): number {
    const bytes = Math.min(MESSAGE_BYTES, Math.max(Math.min(room, this.#flight.messageBytes), MIN_MESSAGE_BYTES));
    return Math.min(bytes, this.#mux.peerHello?.limits.maxMessageBytes ?? bytes);
  }

  #sendText(): boolean {
    const text = this.#texts.shift();
    if (text === undefined) return false;
    this.#textLength -= text.length;
    this.#textRun += text.length;
    this.#sentBytes += text.length;
    // Its bytes may be more: to be asked anew.
    this.#lastWaiting = Number.POSITIVE_INFINITY;
    this.#flight.sent(text.length);
    this.#socket.sendText(text);
    return true;
  }
}
