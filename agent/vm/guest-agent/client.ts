/**
 * A conversation with the guest agent of one running VM: one command at a time, over a connection that is made when it is needed and
 * closed again when nobody has used it for a while (the agent serves one peer).
 *
 *   closed ──connect──▶ unsynced ──0xFF and sync: its own answer comes──▶ synced ──command──▶ waiting ──reply──▶ synced
 *     ▲                    ▲                                                                    │
 *     │                    └──────────── no reply in time: one that comes late is nobody's ─────┤
 *     └── idle, end of the connection, VM gone ◀── a reply that is none ────────────────────────┘
 *
 * `guest-sync-delimited` (QEMU Guest Agent Protocol Reference) makes sure that replies belong to commands: 0xFF before it throws away what
 * a peer before us left half said, its answer comes after a 0xFF of the agent's own, and all before that is thrown away here. It is said
 * again each second, since an agent that starts meanwhile may have lost it. Whether an agent is there at all shows only in this answer.
 */
import { randomInt } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import * as v from 'valibot';
import { FairleadError, toFairleadError } from '../../../shared/errors.ts';
import { CommandQueue } from '../command-queue.ts';
import { orAborted, settledWithin } from '../deadline.ts';
import type { CommandLimits } from '../live-vm.ts';
import { GUEST_COMMANDS, type GuestArguments, type GuestCommandName, GuestReply, type GuestResult } from './commands.ts';
import { type Cut, type ReplyPart, ReplyReader, SENTINEL } from './reply-reader.ts';

/** So much of a string is kept, as 64 KiB in base64 need. */
const REPLY_LIMITS = { maxStringBytes: Math.ceil((64 * 1024) / 3) * 4, maxReplyBytes: 512 * 1024 } as const;
/** Of one reply on the wire: two outputs of 16 MiB, the most that the agent keeps of a command, are 43 MiB in base64. */
const MAX_WIRE_BYTES = 64 * 1024 ** 2;
/** The agent of a guest that has started answers at once; one that starts meanwhile is asked again. */
const SYNC_AGAIN_MS = 1_000;
const CONNECT_AGAIN_MS = 250;
const IDLE_MS = 2_000;
const COMMAND_MS = 10_000;

export interface ClientOptions {
  readonly vm: string;
  /** For messages: "over virtio-serial". */
  readonly way: string;
  /** One attempt. Rejects with GUEST_REFUSED or GUEST_UNREACHABLE while the guest is not ready for it. */
  readonly connect: (options: { timeoutMs: number; signal: AbortSignal }) => Promise<Duplex>;
  /** Fires when the VM's process is gone or the agent leaves. */
  readonly signal: AbortSignal;
}

export interface Answer<Name extends GuestCommandName> {
  readonly value: GuestResult<Name>;
  /** Long strings of it that were not kept whole, by the name of their member. */
  readonly cuts: ReadonlyMap<string, Cut>;
}

interface Connection {
  readonly stream: Duplex;
  readonly parts: ReplyPart[];
  /** Characters of the replies among them. */
  unheard: number;
  /** Bytes since the last whole reply. */
  wireBytes: number;
  arrived: PromiseWithResolvers<void>;
  isOver: boolean;
  isSynced: boolean;
}

export class GuestAgentClient {
  readonly #options: ClientOptions;
  readonly #queue = new CommandQueue();
  #connection: Connection | undefined;
  #idle: NodeJS.Timeout | undefined;

  constructor(options: ClientOptions) {
    this.#options = options;
    options.signal.addEventListener('abort', () => this.close(), { once: true });
  }

  /**
   * @throws FairleadError GUEST_UNREACHABLE when no agent answers, UNSUPPORTED when it has no such command, WRONG_STATE while the guest's
   * file systems are frozen, GUEST_FAILED when it says no, PROTOCOL_ERROR, or the reason of a signal.
   */
  async run<Name extends GuestCommandName>(
    name: Name,
    args: GuestArguments<Name>,
    limits: CommandLimits,
    /** How long the agent may take for this command, once it is there. */
    replyMs = COMMAND_MS,
  ): Promise<Answer<Name>> {
    return this.#inTurn(limits, async (connection, signal) => {
      send(connection, { execute: name, arguments: args });
      const reply = await this.#reply(connection, name, signal, replyMs);
      const value = v.safeParse(GUEST_COMMANDS[name].result, this.#valueOf(reply.text, name), { abortEarly: true });
      if (!value.success) throw this.#broken(`answered ${name} with what it should not: ${value.issues[0].message}`);
      return { value: value.output, cuts: reply.cuts };
    });
  }

  /** A command that is answered only when it fails: settles when it has failed, or said nothing for `quietMs`, or the guest is gone. */
  async tell<Name extends GuestCommandName>(
    name: Name,
    args: GuestArguments<Name>,
    limits: CommandLimits,
    quietMs: number,
  ): Promise<void> {
    await this.#inTurn(limits, async (connection, signal) => {
      send(connection, { execute: name, arguments: args });
      connection.isSynced = false;
      try {
        const reply = await this.#nextReply(connection, signal, quietMs);
        if (reply !== undefined) this.#valueOf(reply.text, name);
      } catch (error) {
        // The end of QEMU may be heard of before that of the connection.
        if (error !== this.#options.signal.reason) throw error;
      }
    });
  }

  close(): void {
    clearTimeout(this.#idle);
    this.#connection?.stream.destroy();
    this.#connection = undefined;
  }

  async #inTurn<T>(limits: CommandLimits, use: (connection: Connection, signal: AbortSignal) => Promise<T>): Promise<T> {
    const signal = AbortSignal.any([limits.signal, this.#options.signal]);
    return this.#queue.run(signal, async () => {
      clearTimeout(this.#idle);
      try {
        return await use(await this.#synced(signal, limits.remainingMs), signal);
      } catch (error) {
        // What was asked may still be answered.
        if (this.#connection !== undefined && isUnanswered(error, signal)) this.#connection.isSynced = false;
        throw error;
      } finally {
        this.#idle = setTimeout(() => this.close(), IDLE_MS).unref();
      }
    });
  }

  /** A connection on which the agent has answered. Tries until the time is over, on new connections where one ends. */
  async #synced(signal: AbortSignal, withinMs: number): Promise<Connection> {
    const endsAt = performance.now() + withinMs;
    let why: unknown;
    for (;;) {
      const leftMs = endsAt - performance.now();
      if (leftMs <= 0) throw this.#unreachable(why);
      try {
        const connection = (this.#connection ??= await this.#connect(signal, leftMs));
        // What it said unasked would pass for the next answer.
        if (connection.isSynced && !connection.isOver && connection.parts.length === 0) return connection;
        if (await this.#sync(connection, signal, endsAt)) return connection;
      } catch (error) {
        signal.throwIfAborted();
        const { code } = toFairleadError(error);
        if (code !== 'GUEST_REFUSED' && code !== 'GUEST_UNREACHABLE') throw error;
        why = error;
      }
      this.close();
      const pauseMs = Math.min(CONNECT_AGAIN_MS, Math.max(0, endsAt - performance.now()));
      await orAborted(sleep(pauseMs), signal);
    }
  }

  async #connect(signal: AbortSignal, timeoutMs: number): Promise<Connection> {
    const stream = await this.#options.connect({ timeoutMs: Math.ceil(timeoutMs), signal });
    const reader = new ReplyReader(REPLY_LIMITS);
    const connection: Connection = {
      stream,
      parts: [],
      unheard: 0,
      wireBytes: 0,
      arrived: Promise.withResolvers(),
      isOver: false,
      isSynced: false,
    };
    const over = (): void => {
      connection.isOver = true;
      connection.arrived.resolve();
    };
    stream.on('error', over).on('close', over).on('end', over);
    stream.on('data', (chunk: Uint8Array) => {
      const parts = reader.push(chunk);
      connection.wireBytes += chunk.length;
      if (connection.wireBytes > MAX_WIRE_BYTES) return void stream.destroy();
      if (parts.length === 0) return;
      connection.wireBytes = 0;
      connection.parts.push(...parts);
      for (const part of parts) connection.unheard += charactersOf(part);
      // Nobody asked for so much.
      if (connection.parts.length > MAX_PARTS || connection.unheard > MAX_UNHEARD) return void stream.destroy();
      connection.arrived.resolve();
    });
    return connection;
  }

  /** False when the connection ended, or the time did, before the agent's answer. */
  async #sync(connection: Connection, signal: AbortSignal, endsAt: number): Promise<boolean> {
    const ids: number[] = [];
    let isHeard = false;
    while (!connection.isOver && performance.now() < endsAt) {
      // An agent that has answered one of them will come to the last.
      if (!isHeard) {
        ids.push(randomInt(2 ** 31));
        connection.stream.write(Buffer.from([SENTINEL]));
        send(connection, { execute: 'guest-sync-delimited', arguments: { id: ids.at(-1) } });
      }
      const turnEndsAt = isHeard ? endsAt : Math.min(performance.now() + SYNC_AGAIN_MS, endsAt);
      let isDelimited = false;
      for (;;) {
        const part = await this.#next(connection, signal, turnEndsAt - performance.now());
        if (part === undefined) break;
        const answered = isDelimited && part.kind === 'reply' ? syncedId(part.text) : undefined;
        isDelimited = part.kind === 'sentinel';
        if (answered === undefined || !ids.includes(answered)) continue;
        isHeard = true;
        if (answered !== ids.at(-1)) continue;
        connection.isSynced = true;
        return true;
      }
    }
    return false;
  }

  async #reply(connection: Connection, name: string, signal: AbortSignal, withinMs: number) {
    const reply = await this.#nextReply(connection, signal, withinMs);
    if (reply !== undefined) return reply;
    if (connection.isOver) {
      this.close();
      throw new FairleadError('INTERRUPTED', `the guest agent of VM ${this.#options.vm} went away during ${name}`);
    }
    connection.isSynced = false;
    throw new FairleadError('GUEST_UNREACHABLE', `the guest agent of VM ${this.#options.vm} did not answer ${name} in time`);
  }

  async #nextReply(connection: Connection, signal: AbortSignal, withinMs: number) {
    const part = await this.#next(connection, signal, withinMs);
    if (part === undefined) return undefined;
    if (part.kind === 'reply') return part;
    throw this.#broken(part.kind === 'overlong' ? 'gave an answer that is too long' : 'spoke out of turn');
  }

  /** The next thing that the agent says; undefined when the connection is over, or nothing comes in time. */
  async #next(connection: Connection, signal: AbortSignal, withinMs: number): Promise<ReplyPart | undefined> {
    if (connection.parts.length === 0 && !connection.isOver) {
      connection.arrived = Promise.withResolvers();
      await orAborted(settledWithin(connection.arrived.promise, Math.max(0, withinMs)), signal);
    }
    const part = connection.parts.shift();
    if (part !== undefined) connection.unheard -= charactersOf(part);
    return part;
  }

  #valueOf(text: string, name: string): unknown {
    const { vm } = this.#options;
    const reply = v.safeParse(GuestReply, parseJson(text));
    if (!reply.success) throw this.#broken(`answered ${name} with what is no answer`);
    if ('return' in reply.output) return reply.output.return;
    const { class: kind, desc } = reply.output.error;
    const words = brief(desc);
    if (kind !== 'CommandNotFound') {
      throw new FairleadError('GUEST_FAILED', `the guest agent of VM ${vm} could not carry out ${name}: ${words}`, {
        cause: new Error(words),
      });
    }
    if (/frozen/i.test(words)) {
      const what = `the guest agent of VM ${vm} does not take ${name} while its file systems are frozen`;
      throw new FairleadError('WRONG_STATE', `${what}: thaw them first`);
    }
    const what = `the guest agent of VM ${vm} does not offer ${name}`;
    throw new FairleadError('UNSUPPORTED', `${what} (${words}): a newer one may, or its configuration forbids it`);
  }

  /** Nothing of what such a peer still says can be trusted to belong to a command. */
  #broken(what: string): FairleadError {
    this.close();
    return new FairleadError('PROTOCOL_ERROR', `the guest agent of VM ${this.#options.vm} ${what}`);
  }

  #unreachable(cause: unknown): FairleadError {
    const { vm, way } = this.#options;
    const todo = 'is qemu-guest-agent installed and running in the guest, and has it had time to start?';
    return new FairleadError('GUEST_UNREACHABLE', `no guest agent of VM ${vm} answers ${way}: ${todo}`, {
      details: { vm },
      cause,
    });
  }
}

/** What lies about unasked for: parts, and characters of them. One reply may be as long as it may. */
const MAX_PARTS = 1_024;
const MAX_UNHEARD = 2 * REPLY_LIMITS.maxReplyBytes;
const MAX_WORDS = 500;

function send({ stream }: Connection, command: object): void {
  stream.write(`${JSON.stringify(command)}\n`);
}

function charactersOf(part: ReplyPart): number {
  return part.kind === 'reply' ? part.text.length : 0;
}

function syncedId(text: string): number | undefined {
  const reply = v.safeParse(v.object({ return: v.number() }), parseJson(text));
  return reply.success ? reply.output.return : undefined;
}

/** The reason stands at the end, behind what may be a long path. */
function brief(words: string): string {
  return words.length <= MAX_WORDS ? words : `${words.slice(0, MAX_WORDS / 2)}…${words.slice(1 - MAX_WORDS / 2)}`;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function isUnanswered(error: unknown, signal: AbortSignal): boolean {
  return signal.aborted || toFairleadError(error).code === 'GUEST_UNREACHABLE';
}
