/**
 * A TCP proxy that cuts what goes through it. `cutAfter` ends every connection once so many more bytes have gone in one direction, in the
 * middle of whatever they are the middle of; both sides see a reset.
 */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

export class CutProxy implements AsyncDisposable {
  readonly #server: Server;
  readonly #target: () => number;
  readonly #pairs = new Set<readonly [Socket, Socket]>();
  #leftBytes = Number.POSITIVE_INFINITY;
  #onCut: (() => void) | undefined;
  /** From the cut until the connections are gone: nothing passes on any of them. */
  #isCutting = false;
  #cuts = 0;

  private constructor(server: Server, target: () => number) {
    this.#server = server;
    this.#target = target;
    server.on('connection', (near) => this.#join(near));
  }

  /** `target` is asked for the port for each connection. */
  static async start(target: () => number): Promise<CutProxy> {
    const server = createServer({ noDelay: true });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new CutProxy(server, target);
  }

  get port(): number {
    // SAFETY: it listens on TCP.
    return (this.#server.address() as AddressInfo).port;
  }

  /** Cuts that ended a connection. */
  get cuts(): number {
    return this.#cuts;
  }

  /** Resolves when the cut is made. */
  cutAfter(bytes: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#leftBytes = bytes;
    this.#onCut = resolve;
    return promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#cutAll();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #join(near: Socket): void {
    const far = connect({ port: this.#target(), host: '127.0.0.1', noDelay: true });
    const pair = [near, far] as const;
    this.#pairs.add(pair);
    for (const [from, to] of [pair, [far, near] as const]) {
      from.on('error', () => {});
      from.on('close', () => {
        this.#pairs.delete(pair);
        to.destroy();
      });
      from.on('data', (bytes) => this.#pass(from, to, bytes));
    }
  }

  #pass(from: Socket, to: Socket, bytes: Buffer): void {
    if (this.#isCutting) return;
    const passing = bytes.subarray(0, Math.min(bytes.length, this.#leftBytes));
    this.#leftBytes -= passing.length;
    if (!to.write(passing)) {
      from.pause();
      to.once('drain', () => from.resume());
    }
    if (this.#leftBytes > 0) return;
    this.#leftBytes = Number.POSITIVE_INFINITY;
    this.#cuts += 1;
    this.#isCutting = true;
    // The bytes before the cut are on their way; a destroyed socket would take them along.
    setImmediate(() => {
      this.#cutAll();
      this.#isCutting = false;
      this.#onCut?.();
    });
  }

  #cutAll(): void {
    for (const [near, far] of this.#pairs) {
      near.resetAndDestroy();
      far.resetAndDestroy();
    }
    this.#pairs.clear();
  }
}
