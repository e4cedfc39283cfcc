/**
 * The agent's end of the channel to its launcher (agent/launcher/messages.ts). Loaded where there is one.
 *
 *     waiting for hello ──▶ settled ── stage ──▶ staged ──▶ leaving
 *                     └───▶ on trial ── kept ──▶ settled
 *     any ── stop, or the launcher is gone ──▶ leaving
 */
import { FairleadError } from '../../shared/errors.ts';
import { knownMessage, type ToLauncher, type ToRelease } from '../launcher/messages.ts';
import type { LauncherRecord, Outcome, Release, Update } from '../launcher/record.ts';

/** Why the agent is to end: for another release, or because it was told to. */
export type Leaving = 'for another release' | 'told to stop' | 'the launcher is gone';

type Channel = Pick<NodeJS.Process, 'on' | 'send' | 'channel'>;
type Hello = Extract<ToRelease, { type: 'hello' }>;

export class LauncherLine {
  /** Settles when the agent is to end in order. */
  readonly leaving: Promise<Leaving>;
  readonly #channel: Channel;
  readonly #hello = Promise.withResolvers<Hello>();
  readonly #kept = Promise.withResolvers<void>();
  readonly #leaving = Promise.withResolvers<Leaving>();
  #record: LauncherRecord | undefined;
  #staging: { readonly id: string; readonly resolve: () => void; readonly reject: (error: Error) => void } | undefined;

  constructor(channel: Channel) {
    this.#channel = channel;
    this.leaving = this.#leaving.promise;
    channel.on('message', (value) => {
      const message = knownMessage<ToRelease>(value);
      if (message !== undefined) this.#hear(message);
    });
    channel.on('disconnect', () => this.#leaving.resolve('the launcher is gone'));
    // An agent that has stopped ends, with the channel open.
    channel.channel?.unref();
  }

  /** Where releases are, and which of them this is. */
  async self(): Promise<{ readonly directory: string; readonly release: Release }> {
    return this.#hello.promise;
  }

  /** As the launcher last told it. */
  async record(): Promise<LauncherRecord> {
    const { record } = await this.#hello.promise;
    return this.#record ?? record;
  }

  /** The update that this release must prove itself for; undefined when it is settled. */
  async trial(): Promise<Update | undefined> {
    const { update } = await this.record();
    return update?.stage === 'trying' ? update : undefined;
  }

  /** What became of the update that the command gave; waits for one on trial, and is undefined for one that the launcher never had. */
  async outcomeOf(id: string): Promise<Outcome | undefined> {
    if ((await this.trial())?.id === id) await this.#kept.promise;
    return (await this.record()).outcomes.find((outcome) => outcome.id === id);
  }

  /** Settles when the other release will be tried whatever happens. @throws FairleadError CONFLICT, INTERRUPTED */
  async stage(update: Update): Promise<void> {
    if (this.#staging !== undefined) throw new FairleadError('CONFLICT', 'another update of the agent is under way');
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#staging = { id: update.id, resolve, reject };
    const gone = this.leaving.then((why) => {
      throw new FairleadError('INTERRUPTED', `the agent is stopping: ${why}`);
    });
    this.#tell({ type: 'stage', update });
    try {
      await Promise.race([promise, gone]);
    } finally {
      this.#staging = undefined;
      gone.catch(() => {});
    }
    this.#leaving.resolve('for another release');
  }

  waitsFor(why: string): void {
    this.#tell({ type: 'waits', why });
  }

  /** Settles when the launcher has it on disk. */
  async healthy(): Promise<void> {
    this.#tell({ type: 'healthy' });
    await this.#kept.promise;
  }

  connected(): void {
    this.#tell({ type: 'connected' });
  }

  #hear(message: ToRelease): void {
    if (message.type === 'hello') this.#hello.resolve(message);
    if (message.type === 'stop') this.#leaving.resolve('told to stop');
    if (message.type === 'kept' || message.type === 'settled') this.#record = message.record;
    if (message.type === 'kept') this.#kept.resolve();
    if (message.type !== 'staged' && message.type !== 'refused') return;
    if (message.id !== this.#staging?.id) return;
    if (message.type === 'staged') this.#staging.resolve();
    else this.#staging.reject(new FairleadError('CONFLICT', `the launcher does not take the update: ${message.why}`));
  }

  #tell(message: ToLauncher): void {
    // One that is gone is told of by its disconnect.
    this.#channel.send?.(message, undefined, {}, () => {});
  }
}
