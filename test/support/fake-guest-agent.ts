/**
 * A guest agent that does what a script says, faults included, on streams in memory. The script runs once for each connection; when it
 * returns the connection stays open and silent.
 *
 *     const fake = fakeGuestAgent(async (agent) => {
 *       await agent.sync();
 *       const command = await agent.receive();
 *       agent.say({ return: {} });
 *     });
 *     const client = new GuestAgentClient(fake.options);
 */
import { EventEmitter, on } from 'node:events';
import { type Duplex, duplexPair } from 'node:stream';
import type { ClientOptions } from '../../agent/vm/guest-agent/client.ts';

export interface FakeGuestCommand {
  readonly execute: string;
  readonly arguments: Readonly<Record<string, unknown>>;
}

/** One connection, from the guest's side. */
export class FakeGuestPeer {
  readonly stream: Duplex;
  readonly #commands: AsyncIterator<unknown[]>;
  #unfinished = '';

  constructor(stream: Duplex) {
    this.stream = stream;
    const lines = new EventEmitter();
    this.#commands = on(lines, 'line', { close: ['over'] });
    stream.on('error', () => {});
    stream.on('data', (chunk: Buffer) => {
      const parts = (this.#unfinished + chunk.toString('latin1')).split('\n');
      this.#unfinished = parts.pop() ?? '';
      for (const part of parts) lines.emit('line', part);
    });
    stream.on('close', () => lines.emit('over'));
  }

  /** As it came, with 0xFF as `ÿ`. Never settles when the client has left. */
  async receiveLine(): Promise<string> {
    const { value, done } = await this.#commands.next();
    if (done === true) return new Promise(() => {});
    return String(value[0]);
  }

  async receive(): Promise<FakeGuestCommand> {
    const line = await this.receiveLine();
    // SAFETY: what the client under test writes; a test that gets something else fails on what it looks for.
    return JSON.parse(line.slice(line.lastIndexOf('\xff') + 1)) as FakeGuestCommand;
  }

  say(...replies: readonly object[]): void {
    this.write(replies.map((reply) => `${JSON.stringify(reply)}\n`).join(''));
  }

  write(bytes: string | Uint8Array): void {
    if (!this.stream.destroyed) this.stream.write(bytes);
  }

  /** Answers a sync as qemu-ga does: it complains of the 0xFF first. */
  async sync(): Promise<void> {
    const { execute, arguments: args } = await this.receive();
    if (execute !== 'guest-sync-delimited') throw new Error(`${execute} came before a sync`);
    this.#answerSync(args['id']);
  }

  #answerSync(id: unknown): void {
    this.say({ error: { class: 'GenericError', desc: 'JSON parse error, stray' } });
    this.write(Buffer.from([0xff]));
    this.say({ return: id });
  }

  /** Answers every command by the table, and every sync; a command that is not in it is not offered, and one that throws says no. */
  async serve(answers: Readonly<Record<string, (args: FakeGuestCommand['arguments']) => unknown>>): Promise<void> {
    for (;;) {
      const { execute, arguments: args } = await this.receive();
      if (execute === 'guest-sync-delimited') {
        this.#answerSync(args['id']);
        continue;
      }
      const answer = answers[execute];
      const unknown = { error: { class: 'CommandNotFound', desc: `The command ${execute} has not been found` } };
      this.say(answer === undefined ? unknown : reply(() => answer(args)));
    }
  }
}

function reply(answer: () => unknown): object {
  try {
    return { return: answer() };
  } catch (error) {
    return { error: { class: 'GenericError', desc: error instanceof Error ? error.message : String(error) } };
  }
}

export interface FakeGuestAgent {
  readonly options: ClientOptions;
  readonly connections: () => number;
  /** Ends the life of the VM. */
  end(reason: Error): void;
}

export function fakeGuestAgent(script: (agent: FakeGuestPeer, connection: number) => Promise<void>): FakeGuestAgent {
  const life = new AbortController();
  let connections = 0;
  return {
    options: {
      vm: 'web',
      way: 'over a test',
      signal: life.signal,
      connect: async () => {
        const [near, far] = duplexPair();
        connections += 1;
        void script(new FakeGuestPeer(far), connections);
        return near;
      },
    },
    connections: () => connections,
    end: (reason) => life.abort(reason),
  };
}
