/**
 * One process of a simulated fleet: makes its share of the hosts, a few at a time, and tells its parent once a second how they are. It
 * ends when the parent says so or is gone.
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { toFairleadError } from '../../shared/errors.ts';
import type { LinkState } from '../link/link.ts';
import { EMPTY_COUNTS, type Order, type SimCounts } from './crew-messages.ts';
import { SharedDisk } from './shared-disk.ts';
import { SimHost } from './sim-host.ts';

/** Hosts that begin at once: each writes a key and opens a journal. */
const STARTING_AT_ONCE = 32;
const TELL_MS = 1_000;
/** How soon a host whose network goes is cut off. */
const LOOK_MS = 100;

/** Runs until the parent ends it. */
export async function runSimWorker(): Promise<number> {
  const { promise: ordered, resolve } = Promise.withResolvers<Order | undefined>();
  const { promise: over, resolve: end } = Promise.withResolvers<void>();
  process.once('disconnect', () => {
    resolve(undefined);
    end();
  });
  process.on('message', (message: Order | 'stop') => (message === 'stop' ? end() : resolve(message)));
  // A terminal sends them to all processes; the parent says when.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => {});
  const order = await ordered;
  if (order === undefined) return 0;
  {
    await using disk = await SharedDisk.open(join(order.directory, order.disk));
    await using share = new Share(order, disk);
    void share.start();
    await over;
  }
  // The channel to the parent would keep this process.
  if (process.connected) process.disconnect();
  return 0;
}

class Share implements AsyncDisposable {
  readonly #order: Order;
  readonly #disk: SharedDisk;
  readonly #hosts: SimHost[] = [];
  /** Of these, those whose network can go. */
  readonly #inWeather: SimHost[] = [];
  readonly #states = new Map<string, LinkState>();
  readonly #timers: NodeJS.Timeout[] = [];
  #ok = 0;
  #failed = 0;
  #error: string | undefined;
  #isEnding = false;
  #starting: Promise<unknown> = Promise.resolve();

  constructor(order: Order, disk: SharedDisk) {
    this.#order = order;
    this.#disk = disk;
    this.#timers.push(setInterval(() => this.#tell(), TELL_MS));
    this.#timers.push(setInterval(() => this.#look(), LOOK_MS));
  }

  /** Never rejects: a host that cannot begin is counted and told of. */
  async start(): Promise<void> {
    const names = this.#order.hosts.values();
    const begin = async (): Promise<void> => {
      for (const { name, index } of names) {
        if (this.#isEnding) return;
        await this.#begin(name, index);
      }
    };
    this.#starting = Promise.all(Array.from({ length: STARTING_AT_ONCE }, begin));
    await this.#starting;
    this.#tell();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isEnding = true;
    for (const timer of this.#timers) clearInterval(timer);
    await this.#starting;
    await Promise.all(this.#hosts.map((host) => host[Symbol.asyncDispose]()));
  }

  async #begin(name: string, index: number): Promise<void> {
    const { access, script, directory, startedAt } = this.#order;
    try {
      const host = new SimHost({
        access,
        script,
        directory,
        disk: this.#disk,
        name,
        index,
        now: () => Date.now() - startedAt,
        onOperation: (ok) => {
          if (ok) this.#ok += 1;
          else this.#failed += 1;
        },
        onLink: ({ state, lastError }) => {
          this.#states.set(name, state);
          if (lastError !== undefined) this.#error = lastError;
        },
      });
      this.#hosts.push(host);
      if (host.hasWeather) this.#inWeather.push(host);
      await host.start();
      // Lets lines that are up answer in between.
      await sleep(0);
    } catch (error) {
      this.#error = `${name} did not start: ${toFairleadError(error).message}`;
      this.#states.set(name, 'stopped');
    }
  }

  #look(): void {
    for (const host of this.#inWeather) host.look();
  }

  #tell(): void {
    const counts: SimCounts = {
      ...EMPTY_COUNTS,
      hosts: this.#order.hosts.length,
      up: [...this.#states.values()].filter((state) => state === 'up').length,
      broken: [...this.#states.values()].filter((state) => state === 'stopped').length,
      operationsDone: this.#ok,
      operationsFailed: this.#failed,
      rssBytes: process.memoryUsage.rss(),
      lastError: this.#error,
    };
    // Where the parent is gone there is nobody to tell; that it is gone ends this process.
    process.send?.(counts, undefined, undefined, () => {});
  }
}
