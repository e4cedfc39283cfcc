/**
 * One life of a VM's QEMU process as the agent sees it: the process, the QMP session with it, the vsock device, the open streams.
 * It turns QEMU's events into inputs of the state machine and notices, each once whether QMP or the trail (trail.ts) brought it, and tells
 * the end exactly once.
 *
 *     made (spawned or adopted) ──attach──▶ attached ⇄ detached (QMP lost while the process lives: connected anew)
 *            └───────────────────────────────┴──────────┴── process gone ──▶ ended      close(): the agent leaves, nothing is told
 *
 * Handlers are called synchronously and in order, and must not throw.
 */
import type { Duplex } from 'node:stream';
import { FairleadError, type JsonObject, toFairleadError } from '../../shared/errors.ts';
import { isEnding } from '../process-identity.ts';
import { QmpClient } from '../qmp/client.ts';
import { runCommand } from '../qmp/commands.ts';
import type { QmpEvent } from '../qmp/messages.ts';
import type { GuestChange, VsockDevice } from '../streams/transport.ts';
import type { Logger, VmObserver } from './common.ts';
import { settledWithin } from './deadline.ts';
import type { GuestPorts } from './guest-ports/guest-ports.ts';
import type { VmInput } from './machine.ts';
import { MemoryGauge } from './memory/memory-gauge.ts';
import { inputOfRunState, millisecondsOf, QemuEventReader, type QemuNotice, QMP_EVENTS } from './qemu-events.ts';
import type { ProcessExit, QemuProcess } from './spawn.ts';
import { StreamRegistry } from './stream-registry.ts';
import { readTrail } from './trail.ts';

export interface SessionHandlers {
  /** `at` is when it happened, in milliseconds of the host's clock, where QEMU says so. */
  onInput(input: VmInput, data: JsonObject, at?: number): void;
  /** Something to be told that changes no state. */
  onNotice(notice: QemuNotice, at: number): void;
  /** The guest dialled its ready port. */
  onReady(): void;
  /** The guest dialled something else that takes its connection. */
  onDialled?(stream: Duplex): void;
  /** The process is gone and every event that it sent has been handed on. */
  onEnd(end: SessionEnd): void;
}

export interface SessionEnd extends ProcessExit {
  /** Why QEMU said that it shuts down; undefined when it said nothing. */
  readonly shutdownReason: string | undefined;
}

export interface SessionOptions {
  readonly vm: string;
  readonly generation: number;
  readonly process: QemuProcess;
  readonly device: VsockDevice | undefined;
  readonly qmpSocket: string;
  /** QEMU's own account of its events, see trail.ts. */
  readonly trail: string;
  /** Events up to this time, in milliseconds of the host's clock, are known already. Default: none. */
  readonly heardUntilMs?: number | undefined;
  readonly handlers: SessionHandlers;
  readonly logger: Logger;
  readonly observer?: VmObserver | undefined;
  /** What listens to the guest besides the agent itself. */
  readonly guestPorts?: GuestPorts | undefined;
}

/** What QEMU still has to say when it is gone lies in the socket. */
const DRAIN_MS = 1_000;
const MEASURE_MS = 5_000;
const RINGS_MS = 5_000;
/** QEMU closes QMP before it ends, by as long as its disks and its memory take: a connect before that would only be refused. */
const RECONNECT_MS = { first: 1_000, most: 10_000 } as const;

/** The word is a line; a guest that goes on and on would keep the agent busy. */
const MAX_READY_BYTES = 4096;

/** Why streams end with the VM. */
const ENDED = ['the VM ended', { reset: 'NO_DEVICE' }] as const;

const CHANGES: Partial<Record<VmInput, GuestChange>> = {
  pause: 'paused',
  panic: 'paused',
  'io-error': 'paused',
  resume: 'resumed',
};

export class Session {
  readonly vm: string;
  readonly generation: number;
  readonly process: QemuProcess;
  readonly streams: StreamRegistry;
  readonly memory = new MemoryGauge();
  readonly #options: SessionOptions;
  #device: VsockDevice | undefined;
  readonly #over = new AbortController();
  readonly #gone = Promise.withResolvers<void>();
  readonly #ended = Promise.withResolvers<void>();
  #qmp: QmpClient | undefined;
  readonly #reader = new QemuEventReader();
  /** The newest event that was handed on; undefined before the first of this session. */
  #lastHeard: string | undefined;
  /** Events that were taken from the trail, and that QMP may bring once more. */
  readonly #caughtUp = new Set<string>();
  #shutdownReason: string | undefined;
  /** Changes of the guest that the device was told of. */
  #deviceTold = 0;
  /** What the guest is heard by: a word that it is ready, and what else it may dial. */
  #listening: readonly AsyncDisposable[] = [];

  constructor(options: SessionOptions) {
    this.vm = options.vm;
    this.generation = options.generation;
    this.process = options.process;
    this.#device = options.device;
    this.#options = options;
    this.streams = new StreamRegistry(() => (isEnding(this.process.identity) ? this.#streamReset(...ENDED) : undefined));
    this.signal.addEventListener('abort', () => this.#gone.resolve(), { once: true });
    void options.process.exited.then((exit) => this.#onExit(exit));
  }

  /** The vsock device, while the VM has one. */
  get device(): VsockDevice | undefined {
    return this.#device;
  }

  /** Fires when the process is gone or the agent leaves. */
  get signal(): AbortSignal {
    return this.#over.signal;
  }

  /** Settles once the end has been told, or the agent leaves. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  /** @throws FairleadError INTERRUPTED while there is no QMP session. */
  get qmp(): QmpClient {
    if (this.#qmp !== undefined && this.#qmp.state === 'ready') return this.#qmp;
    throw new FairleadError('INTERRUPTED', `VM ${this.vm} has no QMP session at present: its QEMU does not answer`);
  }

  /** Takes over a session that has just become ready, in the same turn, so that no event is missed. */
  attach(qmp: QmpClient): void {
    this.#use(qmp);
    void qmp.closed.then(() => this.connectAgain());
  }

  /** Hands on what QEMU told while nobody listened. */
  catchUp(): void {
    const { events } = readTrail(this.#options.trail);
    // Whatever QMP brings twice it has not brought yet.
    this.#caughtUp.clear();
    for (const event of this.#unheardOf(events)) {
      this.#caughtUp.add(keyOf(event));
      this.#onEvent(event);
    }
  }

  /** By their place, since clocks are set back at times: behind the last one heard, which is no more there when the trail was cut. */
  #unheardOf(events: readonly QmpEvent[]): readonly QmpEvent[] {
    const { heardUntilMs = Number.NEGATIVE_INFINITY } = this.#options;
    const lastHeard = this.#lastHeard;
    if (lastHeard === undefined) return events.filter((event) => millisecondsOf(event) > heardUntilMs);
    return events.slice(events.findLastIndex((event) => keyOf(event) === lastHeard) + 1);
  }

  /** Connects to the monitor of a running QEMU and brings the state up to date; without success nothing stays open. */
  async connect(timeoutMs: number): Promise<void> {
    const { qmpSocket: path, logger, observer } = this.#options;
    const limits = { connectTimeoutMs: timeoutMs, greetingTimeoutMs: timeoutMs, signal: this.signal };
    const qmp = await QmpClient.connect({ path, logger, observer, ...limits });
    this.#use(qmp);
    this.catchUp();
    try {
      const [{ status }] = await Promise.all([
        runCommand(qmp, 'query-status', {}, { timeoutMs }),
        this.memory.refresh((command, args) => runCommand(qmp, command, args, { timeoutMs })),
      ]);
      this.#onInput(inputOfRunState(status), { runState: status });
    } catch (error) {
      await qmp.close();
      throw error;
    }
    void qmp.closed.then(() => this.connectAgain());
  }

  /** Where it was another process that brought it to what it is. @throws FairleadError what QMP throws. */
  async measureMemory(): Promise<void> {
    const { signal } = this;
    await this.memory.refresh((command, args) => runCommand(this.qmp, command, args, { signal, timeoutMs: MEASURE_MS }));
  }

  /** In the background. The process usually ends right after its QMP; one that lives on is asked again, ever less often. */
  connectAgain(): void {
    void this.#connectUntilGone();
  }

  /** Hears what the guest dials: once for each vsock device that the VM has. */
  async listenToGuest(readyPort: number | undefined): Promise<void> {
    const { device, signal, streams, vm, generation } = this;
    if (device === undefined) return;
    const onDialled = (stream: Duplex): void => this.#options.handlers.onDialled?.(stream);
    const guest = { vm, generation, device, streams, readyPort, signal, onDialled };
    const ready = readyPort === undefined ? undefined : await this.#listenForReady(device, readyPort);
    const others = await this.#options.guestPorts?.attach(guest);
    this.#listening = [ready, others].filter((listener) => listener !== undefined);
    if (signal.aborted) await this.#fallSilent();
  }

  #listenForReady(device: VsockDevice, port: number): Promise<AsyncDisposable> {
    let heardAt = -1;
    return device.listen(port, (stream) => {
      stream.on('error', () => {});
      // One word a life of the guest is enough; a guest that dials on and on is not served.
      if (heardAt === this.streams.resets || this.signal.aborted) return void stream.destroy();
      heardAt = this.streams.resets;
      this.streams.add(stream);
      let bytes = 0;
      stream.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > MAX_READY_BYTES) stream.destroy();
      });
      stream.once('end', () => stream.destroy());
      this.#options.handlers.onReady();
    });
  }

  /** Streams go through this device from here on, or through none; those through the one before are reset, and it is given back. */
  async useDevice(device: VsockDevice | undefined): Promise<void> {
    const before = this.#device;
    this.#device = device;
    this.resetStreams('its vsock was taken away');
    await this.#fallSilent();
    await before?.[Symbol.asyncDispose]();
  }

  /** What the guest had open is gone, with its memory unless it is said with what, or is about to be. */
  resetStreams(why = 'the VM was reset', details: JsonObject = {}): void {
    this.streams.reset(this.#streamReset(why, details));
  }

  #streamReset(why: string, details: JsonObject = {}): FairleadError {
    return new FairleadError('STREAM_RESET', `the stream into VM ${this.vm} was reset: ${why}`, { details });
  }

  /** The agent leaves and the process stays. */
  async close(): Promise<void> {
    this.#over.abort(new FairleadError('INTERRUPTED', 'the agent is shutting down'));
    this.resetStreams('the agent is shutting down');
    this.#ended.resolve();
    await Promise.all([this.#qmp?.close(), this.#fallSilent()]);
  }

  async #fallSilent(): Promise<void> {
    const listening = this.#listening;
    this.#listening = [];
    await Promise.all(listening.map((listener) => listener[Symbol.asyncDispose]()));
  }

  #use(qmp: QmpClient): void {
    this.#qmp = qmp;
    // At once, so that a command's caller never goes on before what the command has caused is known here.
    qmp.onEvent(QMP_EVENTS, (event) => {
      this.#options.observer?.onEvent(event.name);
      if (!this.#caughtUp.delete(keyOf(event))) this.#onEvent(event);
    });
  }

  #onEvent(event: QmpEvent): void {
    if (this.signal.aborted) return;
    this.memory.onEvent(event);
    const at = millisecondsOf(event);
    this.#lastHeard = keyOf(event);
    const reason = typeof event.data['reason'] === 'string' ? event.data['reason'] : undefined;
    if (event.name === 'SHUTDOWN') this.#shutdownReason = reason ?? 'unknown';
    const word = this.#reader.read(event);
    if (word === undefined) return;
    if (word.kind === 'input') this.#onInput(word.input, word.data, at);
    else if (word.kind === 'notice') this.#options.handlers.onNotice(word.notice, at);
    else this.#onReset();
  }

  /** The device is told first: it may have to hold back what the end of its streams would do. */
  #onInput(input: VmInput, data: JsonObject, at?: number): void {
    const change = CHANGES[input];
    if (input === 'reset') this.#onReset();
    else if (change === 'resumed') void this.#tellResumed();
    else if (change !== undefined) this.#tellDevice(change);
    this.#options.handlers.onInput(input, data, at);
  }

  #tellDevice(change: GuestChange): void {
    this.#deviceTold += 1;
    this.device?.guestChanged(change);
  }

  /** QEMU tells that the guest goes on before the rings of its devices turn. What it is asked then it answers when they do. */
  async #tellResumed(): Promise<void> {
    if (this.device === undefined || this.#qmp === undefined) return;
    const told = this.#deviceTold;
    // Without an answer the guest may run all the same.
    await runCommand(this.#qmp, 'query-status', {}, { timeoutMs: RINGS_MS }).catch(() => {});
    if (told === this.#deviceTold) this.#tellDevice('resumed');
  }

  #onReset(): void {
    this.device?.guestChanged('reset');
    this.resetStreams();
  }

  async #onExit(exit: ProcessExit): Promise<void> {
    if (this.#qmp !== undefined) await settledWithin(this.#qmp.closed, DRAIN_MS);
    if (this.signal.aborted) return;
    // QMP may have broken before the last words; the trail has them all the same.
    this.catchUp();
    this.#over.abort(new FairleadError('WRONG_STATE', `VM ${this.vm} is not running any more`));
    this.resetStreams(...ENDED);
    this.#options.handlers.onEnd({ ...exit, shutdownReason: this.#shutdownReason });
    this.#ended.resolve();
    await Promise.allSettled([this.#qmp?.close(), this.#fallSilent()]);
  }

  async #connectUntilGone(): Promise<void> {
    for (let delayMs: number = RECONNECT_MS.first; ; delayMs = Math.min(2 * delayMs, RECONNECT_MS.most)) {
      await settledWithin(this.#gone.promise, delayMs);
      if (this.signal.aborted) return;
      try {
        return await this.connect(RECONNECT_MS.most);
      } catch (error) {
        this.#options.logger.warn({ vm: this.vm, error: toFairleadError(error).message }, 'could not connect to QMP again');
      }
    }
  }
}

function keyOf({ name, timestamp }: QmpEvent): string {
  return `${name} ${timestamp.seconds}.${timestamp.microseconds}`;
}
