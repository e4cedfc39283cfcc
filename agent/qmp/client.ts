/**
 * A QMP session with one monitor of one QEMU (QMP specification; docs of QEMU, "interop").
 *
 *     connecting ──connected──▶ negotiating ──capabilities──▶ ready
 *         │                          │                          │
 *         └──────────────────────────┴───── first failure ──────┴──▶ closed
 *
 * `connect` and `over` return a session that is ready, or throw and leave nothing open. Closed is final, and the first cause wins: it
 * resolves `closed`, every pending command is rejected with it as cause, and listeners end. A session that was closed answers
 * `execute` with INTERRUPTED.
 *
 * Upper half (`execute`, `listen`, `close`) may throw and be called at any time, concurrently. Lower half (`#on…`) runs in socket events
 * and never throws to nobody: what goes wrong there closes the session.
 *
 * QEMU may greet twice while it starts, each time with a negotiation to follow; a greeting to a ready session ends it.
 *
 * A reply is matched by its id. An id that was never sent is counted and dropped; an error without id ends the session, since nobody
 * can tell what it answers.
 */
import * as net from 'node:net';
import { type FairleadError, isFairleadError, toFairleadError } from '../../shared/errors.ts';
import * as failure from './errors.ts';
import type { QmpEventName } from './event-names.ts';
import { EventHub, type ListenOptions, type QmpListener } from './events.ts';
import { QmpFramer } from './framing.ts';
import { keepLastWords } from './last-words.ts';
import { type QmpEvent, type QmpGreeting, type QmpMessage, readMessage } from './messages.ts';
import type {
  ExecuteOptions,
  QmpConnectOptions,
  QmpLogger,
  QmpObserver,
  QmpOverOptions,
  QmpState,
  QmpStatistics,
} from './options.ts';
import { passDescriptors } from './pass-descriptors.ts';
import { CommandPipeline } from './pipeline.ts';
import { clampTimerMs } from './timer.ts';

const CONNECT_TIMEOUT_MS = 5_000;
const GREETING_TIMEOUT_MS = 5_000;
const COMMAND_TIMEOUT_MS = 10_000;
/**
 * QEMU greets twice when a client comes in the moment in which the monitor is handed to its own thread: both threads tell it of the
 * connection, and each telling begins the negotiation anew.
 */
const MOST_GREETINGS = 2;

/** The commands whose schema says `allow-oob`, the same in QEMU 7.2 to 10.0. */
export const OOB_COMMANDS: ReadonlySet<string> = new Set(['migrate-pause', 'migrate-recover', 'query-yank', 'yank']);

export class QmpClient implements AsyncDisposable {
  readonly #monitor: string;
  readonly #socket: net.Socket;
  readonly #logger: QmpLogger | undefined;
  readonly #observer: QmpObserver | undefined;
  readonly #greetingTimeoutMs: number;
  readonly #framer: QmpFramer;
  readonly #pipeline: CommandPipeline;
  readonly #hub: EventHub;
  readonly #closed = Promise.withResolvers<FairleadError>();
  readonly #socketGone = Promise.withResolvers<void>();
  readonly #greeted = Promise.withResolvers<QmpGreeting>();
  #greeting: QmpGreeting | undefined;
  #greetings = 0;
  #oob = false;
  #state: QmpState = 'connecting';
  #cause: FairleadError | undefined;
  #events = 0;
  #lateReplies = 0;
  #unknownReplies = 0;

  private constructor(socket: net.Socket, options: QmpOverOptions) {
    this.#monitor = options.name;
    this.#socket = socket;
    this.#logger = options.logger;
    this.#observer = options.observer;
    this.#greetingTimeoutMs = options.greetingTimeoutMs ?? GREETING_TIMEOUT_MS;
    this.#framer = new QmpFramer({ maxMessageBytes: options.maxMessageBytes });
    this.#hub = new EventHub(options.name, options.logger);
    this.#pipeline = new CommandPipeline({
      monitor: options.name,
      commandTimeoutMs: options.commandTimeoutMs ?? COMMAND_TIMEOUT_MS,
      onCommand: (outcome) => this.#observe((observer) => observer.onCommand?.(outcome)),
      write: (text, fds) => this.#write(text, fds),
    });
    keepLastWords(socket);
    socket.on('data', (chunk: Buffer) => this.#onData(chunk));
    socket.on('end', () => this.#fail(failure.disconnected(this.#monitor)));
    socket.on('error', (error) => this.#onSocketError(error));
    socket.on('close', () => this.#onSocketClose());
    if (socket.closed) this.#onSocketClose();
  }

  /**
   * Connects, awaits the greeting and negotiates. `signal` and the deadlines cover all of it.
   * @throws FairleadError CONNECT_FAILED, TIMEOUT, CANCELLED, PROTOCOL_ERROR, INTERRUPTED.
   */
  static async connect(options: QmpConnectOptions): Promise<QmpClient> {
    const { path, connectTimeoutMs = CONNECT_TIMEOUT_MS } = options;
    if (options.signal?.aborted === true) throw failure.setUpCancelled(path, options.signal.reason);
    const socket = new net.Socket();
    const client = new QmpClient(socket, { ...options, name: path });
    const connected = Promise.withResolvers<void>();
    socket.connect({ path }, connected.resolve);
    return client.#setUp(options.signal, () =>
      client.#during(connected.promise, connectTimeoutMs, () => failure.connectTimedOut(path, connectTimeoutMs)),
    );
  }

  /** The same over a socket that is connected already and of which nothing has been read; the session owns it from here on. */
  static async over(socket: net.Socket, options: QmpOverOptions): Promise<QmpClient> {
    const client = new QmpClient(socket, options);
    if (options.signal?.aborted === true) client.#fail(failure.setUpCancelled(options.name, options.signal.reason));
    return client.#setUp(options.signal, () => Promise.resolve());
  }

  get state(): QmpState {
    return this.#state;
  }

  get greeting(): QmpGreeting {
    if (this.#greeting === undefined) throw failure.disconnected(this.#monitor);
    return this.#greeting;
  }

  /** True when out-of-band commands can be sent. */
  get oob(): boolean {
    return this.#oob;
  }

  /** Resolves, never rejects, with the reason why the session ended. */
  get closed(): Promise<FairleadError> {
    return this.#closed.promise;
  }

  get statistics(): QmpStatistics {
    const { commands, failures } = this.#pipeline;
    return { commands, failures, events: this.#events, lateReplies: this.#lateReplies, unknownReplies: this.#unknownReplies };
  }

  /**
   * The `return` of one command, as it came. Commands run one after another in the order of the calls; those with `oob` at once.
   * @throws FairleadError QMP_FAILED, TIMEOUT, CANCELLED, INTERRUPTED, UNSUPPORTED, INVALID_PARAMS (errors.ts says with which details).
   */
  execute(command: string, args?: object, options: ExecuteOptions = {}): Promise<unknown> {
    const refusal = options.oob === true ? this.#refuseOob(command) : undefined;
    return refusal === undefined ? this.#pipeline.submit(command, args, options) : Promise.reject(refusal);
  }

  listen(options: ListenOptions = {}): QmpListener {
    return this.#hub.listen(options);
  }

  /**
   * Calls `handle` with each event of these names as it comes, in order, before any reply that came after it is handed on; as with
   * `listen`, also with those of the set-up. Lasts as long as the session, which a handler that throws ends with what it threw.
   */
  onEvent(names: readonly QmpEventName[], handle: (event: QmpEvent) => void): void {
    try {
      this.#hub.handle(names, handle);
    } catch (thrown) {
      this.#fail(toFairleadError(thrown));
    }
  }

  /** Ends the session; commands that QEMU has not begun are dropped by it. Resolves when the socket is gone. */
  close(): Promise<void> {
    this.#fail(failure.closedByUs(this.#monitor));
    return this.#socketGone.promise;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #refuseOob(command: string): FairleadError | undefined {
    const facts = { command, monitor: this.#monitor, sent: false };
    if (!this.#oob) return failure.oobRefused(facts, 'QEMU does not offer it on this monitor');
    return OOB_COMMANDS.has(command) ? undefined : failure.oobRefused(facts, 'QEMU does not allow it for this command');
  }

  async #setUp(signal: AbortSignal | undefined, connect: () => Promise<void>): Promise<QmpClient> {
    const onAbort = (): void => this.#fail(failure.setUpCancelled(this.#monitor, signal?.reason));
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      this.#enter('connecting');
      await connect();
      await this.#negotiate();
    } catch (thrown) {
      this.#fail(toFairleadError(thrown));
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
    if (this.#cause === undefined) return this;
    await this.#socketGone.promise;
    throw this.#cause;
  }

  async #negotiate(): Promise<void> {
    const timeoutMs = this.#greetingTimeoutMs;
    this.#enter('negotiating');
    const greeting = await this.#during(this.#greeted.promise, timeoutMs, () =>
      failure.greetingTimedOut(this.#monitor, timeoutMs),
    );
    this.#oob = greeting.capabilities.includes('oob');
    await this.#enable(timeoutMs);
    this.#enter('ready');
    setImmediate(() => this.#hub.forgetEarly());
  }

  /** Once more when QEMU has greeted again meanwhile; where it had greeted twice before it read, it knows the command no longer. */
  async #enable(timeoutMs: number): Promise<void> {
    for (let answered = 0; answered < this.#greetings; ) {
      const again = answered > 0;
      answered = this.#greetings;
      try {
        await this.#pipeline.submit('qmp_capabilities', this.#oob ? { enable: ['oob'] } : undefined, { timeoutMs });
      } catch (thrown) {
        const error = toFairleadError(thrown);
        if (again && failure.isCommandNotFound(error)) continue;
        throw error.code === 'QMP_FAILED' ? failure.negotiationFailed(this.#monitor, error) : error;
      }
    }
  }

  /** A step of the set-up: it ends by itself, by its deadline, or with the session. */
  async #during<T>(step: Promise<T>, timeoutMs: number, onTimeout: () => FairleadError): Promise<T> {
    const timer = setTimeout(() => this.#fail(onTimeout()), clampTimerMs(timeoutMs));
    const closed = this.closed.then((cause) => Promise.reject(cause));
    try {
      return await Promise.race([step, closed]);
    } finally {
      clearTimeout(timer);
    }
  }

  #enter(state: QmpState): void {
    if (this.#cause !== undefined) throw this.#cause;
    this.#state = state;
    this.#observe((observer) => observer.onState?.(state));
  }

  #observe(tell: (observer: QmpObserver) => void): void {
    if (this.#observer === undefined) return;
    try {
      tell(this.#observer);
    } catch (thrown) {
      this.#fail(toFairleadError(thrown));
    }
  }

  #write(text: string, fds: readonly number[]): void {
    if (this.#cause !== undefined) return;
    const left = fds.length === 0 ? text : passDescriptors(this.#socket, { text, fds, monitor: this.#monitor });
    this.#socket.write(left);
  }

  #onData(chunk: Buffer): void {
    try {
      for (const value of this.#framer.push(chunk)) {
        if (this.#cause !== undefined) return;
        this.#onMessage(readMessage(value));
      }
    } catch (thrown) {
      const broken = isFairleadError(thrown) && thrown.code === 'PROTOCOL_ERROR';
      this.#fail(broken ? failure.protocolBroken(this.#monitor, thrown) : toFairleadError(thrown));
    }
  }

  #onMessage(message: QmpMessage): void {
    if (this.#greeting === undefined && message.kind !== 'greeting')
      return this.#fail(failure.notAGreeting(this.#monitor, message.kind));
    switch (message.kind) {
      case 'event':
        this.#events++;
        return this.#hub.publish(message.event);
      case 'greeting':
        return this.#onGreeting(message.greeting);
      case 'return':
        if (message.id === undefined) return this.#fail(failure.replyWithoutId(this.#monitor));
        return this.#onReply(message.id, message);
      case 'error':
        if (message.id === undefined) return this.#fail(failure.errorWithoutId(this.#monitor, message.error));
        return this.#onReply(message.id, message);
    }
  }

  #onGreeting(greeting: QmpGreeting): void {
    this.#greetings++;
    if (this.#state === 'ready' || this.#greetings > MOST_GREETINGS) return this.#fail(failure.greetedAgain(this.#monitor));
    this.#greeting = greeting;
    this.#greeted.resolve(greeting);
  }

  #onReply(id: unknown, reply: QmpMessage & { kind: 'return' | 'error' }): void {
    const fate = typeof id === 'number' ? this.#pipeline.answer(id, reply) : 'unknown';
    if (fate === 'delivered') return;
    if (fate === 'late') this.#lateReplies++;
    else this.#unknownReplies++;
    this.#logger?.warn({ qmp: this.#monitor, id, fate }, 'dropped a reply that nobody waits for');
  }

  #onSocketError(error: Error): void {
    const connecting = this.#state === 'connecting';
    this.#fail(connecting ? failure.connectFailed(this.#monitor, error) : failure.disconnected(this.#monitor, error));
  }

  #onSocketClose(): void {
    if (this.#cause === undefined) this.#fail(failure.disconnected(this.#monitor));
    this.#socketGone.resolve();
  }

  /** The one way to `closed`. Only the first cause counts; later ones are logged. */
  #fail(cause: FairleadError): void {
    if (this.#cause !== undefined) {
      this.#logger?.debug({ qmp: this.#monitor, cause: cause.message }, 'a closed QMP session failed again');
      return;
    }
    this.#cause = cause;
    this.#state = 'closed';
    this.#socket.destroy();
    this.#pipeline.interrupt(cause);
    this.#hub.end();
    this.#closed.resolve(cause);
    this.#observe((observer) => observer.onState?.('closed'));
  }
}
