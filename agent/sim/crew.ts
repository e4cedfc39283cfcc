/**
 * A simulated fleet in several processes, each with its share of the hosts. The hosts of a zone are spread over all of them. A process that
 * ends by itself ends the fleet: half of one would be taken for a fault of the hub.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { mkdir, readdir } from 'node:fs/promises';
import { FairleadError } from '../../shared/errors.ts';
import { readOpenFilesLimit } from '../../shared/node/open-files.ts';
import { addCounts, EMPTY_COUNTS, type Order, type SimCounts } from './crew-messages.ts';
import type { SimScript } from './script.ts';
import type { HubAccess } from './sim-host.ts';

export interface SimFleetOptions {
  readonly hosts: number;
  readonly processes: number;
  /** Hosts are `PREFIX-00001` and so on. */
  readonly prefix: string;
  readonly access: HubAccess;
  readonly script: SimScript;
  /** Below it each host has its state directory. */
  readonly directory: string;
  /** Of the program that `fairlead` is. */
  readonly entry: string;
  /** Told of new counts. */
  readonly onCounts?: ((counts: SimCounts) => void) | undefined;
}

/** Descriptors of a host: its line, an attempt at one, its journal. */
const FILES_A_HOST = 3;
/** Of a process without any host. */
const FILES_A_PROCESS = 64;
/** The word by which the executable knows that it is one of the processes. */
export const WORKER_VERB = 'sim-worker';

export class SimFleet implements AsyncDisposable {
  readonly #options: SimFleetOptions;
  readonly #children: ChildProcess[] = [];
  readonly #counts = new Map<ChildProcess, SimCounts>();
  readonly #waiting = new Set<() => void>();
  readonly #failed = Promise.withResolvers<never>();
  #isEnding = false;

  private constructor(options: SimFleetOptions) {
    this.#options = options;
    this.#failed.promise.catch(() => {});
  }

  /** @throws FairleadError LIMIT_EXCEEDED where a process may not open as many files as its hosts need */
  static async start(options: SimFleetOptions): Promise<SimFleet> {
    const { hosts, processes, directory, prefix, access, script } = options;
    requireFiles(Math.ceil(hosts / processes), processes);
    await mkdir(directory, { recursive: true, mode: 0o700 });
    await requireSameShares(directory, processes);
    const fleet = new SimFleet(options);
    const digits = Math.max(5, String(hosts).length);
    const all = Array.from({ length: hosts }, (_, index) => ({
      name: `${prefix}-${String(index + 1).padStart(digits, '0')}`,
      index,
    }));
    const startedAt = Date.now();
    for (let number = 0; number < processes; number++) {
      const share = all.filter(({ index }) => index % processes === number);
      const disk = `disk-${number + 1}-of-${processes}.log`;
      fleet.#fork({ hosts: share, access, script, directory, disk, startedAt });
    }
    return fleet;
  }

  get counts(): SimCounts {
    const known = [...this.#counts.values()].reduce(addCounts, EMPTY_COUNTS);
    return { ...known, hosts: this.#options.hosts };
  }

  get pids(): readonly number[] {
    return this.#children.flatMap(({ pid }) => pid ?? []);
  }

  /** Rejects when one of the processes has ended by itself. */
  get failed(): Promise<never> {
    return this.#failed.promise;
  }

  /** Resolves once the counts are as wanted. @throws the signal's reason; INTERNAL when a process has ended */
  async until(wanted: (counts: SimCounts) => boolean, signal?: AbortSignal): Promise<SimCounts> {
    for (;;) {
      if (wanted(this.counts)) return this.counts;
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      const onAbort = (): void => reject(signal?.reason);
      this.#waiting.add(resolve);
      signal?.addEventListener('abort', onAbort, { once: true });
      try {
        signal?.throwIfAborted();
        await Promise.race([promise, this.failed]);
      } finally {
        this.#waiting.delete(resolve);
        signal?.removeEventListener('abort', onAbort);
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isEnding = true;
    await Promise.all(
      this.#children.map(async (child) => {
        if (child.exitCode !== null || child.signalCode !== null) return;
        const { promise, resolve } = Promise.withResolvers<void>();
        child.once('exit', () => resolve());
        if (child.connected) child.send('stop' satisfies Order | 'stop');
        await promise;
      }),
    );
  }

  #fork(order: Order): void {
    const child = fork(this.#options.entry, [WORKER_VERB], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    this.#children.push(child);
    child.on('message', (counts: SimCounts) => {
      this.#counts.set(child, counts);
      this.#options.onCounts?.(this.counts);
      for (const tell of this.#waiting) tell();
    });
    child.on('error', (cause) => this.#failed.reject(new FairleadError('INTERNAL', `a process of the fleet: ${cause.message}`)));
    child.once('exit', (code, signal) => {
      if (this.#isEnding) return;
      this.#failed.reject(new FairleadError('INTERNAL', `a process of the fleet ended with ${signal ?? code}`));
    });
    child.send(order);
  }
}

/** Which hosts have their journals on which disk follows from the number of processes. @throws FairleadError INVALID_PARAMS */
async function requireSameShares(directory: string, processes: number): Promise<void> {
  for (const name of await readdir(directory)) {
    const made = /^disk-\d+-of-(\d+)\.log$/.exec(name)?.[1];
    if (made === undefined || Number(made) === processes) continue;
    const message = `the hosts in ${directory} were made by ${made} processes, not ${processes}: take --processes ${made}, or another directory`;
    throw new FairleadError('INVALID_PARAMS', message);
  }
}

function requireFiles(hostsAProcess: number, processes: number): void {
  const needed = hostsAProcess * FILES_A_HOST + FILES_A_PROCESS;
  const limit = readOpenFilesLimit();
  if (limit === undefined || needed <= limit) return;
  throw new FairleadError(
    'LIMIT_EXCEEDED',
    `${hostsAProcess} hosts in one process need some ${needed} open files, and a process may have ${limit}: ` +
      `raise the limit (ulimit -n), or take more than ${processes} processes`,
  );
}
