/** A stream that counts what comes in on it and what is given to it to send; everything else is the stream's own. */
import type { FairleadError, JsonObject } from '../../shared/errors.ts';
import type { RawStream, StreamHandler } from '../../shared/mux/stream-handler.ts';

export class CountedStream implements RawStream {
  readonly id: number;
  readonly #stream: RawStream;
  #receivedBytes = 0;
  #givenBytes = 0;

  constructor(stream: RawStream) {
    this.#stream = stream;
    this.id = stream.id;
  }

  get receivedBytes(): number {
    return this.#receivedBytes;
  }

  /** Bytes of `send`, sent by now or still waiting. */
  get givenBytes(): number {
    return this.#givenBytes;
  }

  get sendLimit(): number {
    return this.#stream.sendLimit;
  }

  get sentBytes(): number {
    return this.#stream.sentBytes;
  }

  get queuedBytes(): number {
    return this.#stream.queuedBytes;
  }

  attach(handler: StreamHandler): void {
    this.#stream.attach({
      ...handler,
      onData: (payload, exhausted) => {
        this.#receivedBytes += payload.length;
        handler.onData(payload, exhausted);
      },
    });
  }

  accept(meta: JsonObject, creditBytes: number): void {
    this.#stream.accept(meta, creditBytes);
  }

  refuse(error: FairleadError): void {
    this.#stream.refuse(error);
  }

  send(payload: Uint8Array, exhausted?: boolean): void {
    this.#givenBytes += payload.length;
    this.#stream.send(payload, exhausted);
  }

  grant(limit: number, acked: number): void {
    this.#stream.grant(limit, acked);
  }

  fin(): void {
    this.#stream.fin();
  }

  reset(code: number, reason: string): void {
    this.#stream.reset(code, reason);
  }
}
