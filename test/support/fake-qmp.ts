/**
 * A QMP server on a real unix socket that does what a script says, faults included.
 *
 *     await using fake = await startFakeQmp(async (peer) => {
 *       await peer.negotiate();
 *       const command = await peer.receive();
 *       peer.reply(command, { running: true });
 *     });
 *     const client = await QmpClient.connect({ path: fake.path });
 *
 * The script runs once for each connection, one connection at a time as in QEMU: a second client is accepted by the kernel and hears
 * nothing until the first has gone. When the script returns the connection stays open, so that silence is the default; a script that
 * waits for a command ends quietly when its client leaves. What else a script throws is thrown again when the fake is disposed.
 */
import { EventEmitter, once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import * as net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface FakeCommand {
  readonly execute?: string;
  readonly 'exec-oob'?: string;
  readonly arguments?: unknown;
  readonly id?: number;
}

export const GREETING = {
  QMP: { version: { qemu: { micro: 22, minor: 2, major: 7 }, package: 'fake' }, capabilities: ['oob'] },
};

class ClientLeft extends Error {}

export class FakePeer {
  readonly #socket: net.Socket;
  readonly #commands: FakeCommand[] = [];
  readonly #arrived = new EventEmitter();
  #unfinished = '';

  constructor(socket: net.Socket) {
    this.#socket = socket;
    socket.setEncoding('utf8');
    socket.on('data', (text: string) => this.#onText(text));
    socket.on('close', () => this.#arrived.emit('any'));
    // A client that leaves while we write is no failure of the test.
    socket.on('error', () => {});
  }

  /** Raw bytes, in one write. */
  write(bytes: string | Uint8Array): void {
    this.#socket.write(bytes);
  }

  send(...messages: readonly unknown[]): void {
    this.write(messages.map((message) => `${JSON.stringify(message)}\r\n`).join(''));
  }

  reply(command: FakeCommand, value: unknown = {}): void {
    this.send({ return: value, id: command.id });
  }

  fail(command: FakeCommand, errorClass: string, desc: string): void {
    this.send({ error: { class: errorClass, desc }, id: command.id });
  }

  event(name: string, data: object = {}): void {
    this.send(eventOf(name, data));
  }

  async receive(): Promise<FakeCommand> {
    for (;;) {
      const command = this.#commands.shift();
      if (command !== undefined) return command;
      if (this.#socket.closed) throw new ClientLeft('the client left');
      await once(this.#arrived, 'any');
    }
  }

  /** Greeting and `qmp_capabilities`; returns the latter. */
  async negotiate(): Promise<FakeCommand> {
    this.send(GREETING);
    const command = await this.receive();
    this.reply(command);
    return command;
  }

  /** Answers each command by the function until the client leaves. */
  async serve(answer: (command: FakeCommand) => unknown): Promise<void> {
    for (;;) {
      const command = await this.receive();
      this.reply(command, answer(command));
    }
  }

  end(): void {
    this.#socket.end();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  async gone(): Promise<void> {
    if (!this.#socket.closed) await once(this.#socket, 'close');
  }

  #onText(text: string): void {
    const lines = (this.#unfinished + text).split('\n');
    this.#unfinished = lines.pop() ?? '';
    this.#commands.push(...lines.map((line) => JSON.parse(line)));
    this.#arrived.emit('any');
  }
}

export type FakeScript = (peer: FakePeer) => void | Promise<void>;

export interface FakeQmp extends AsyncDisposable {
  readonly path: string;
}

export function eventOf(name: string, data: object = {}): object {
  return { event: name, data, timestamp: { seconds: 1, microseconds: 2 } };
}

export async function startFakeQmp(script: FakeScript): Promise<FakeQmp> {
  const directory = await mkdtemp(join(tmpdir(), 'fake-qmp-'));
  const path = join(directory, 'qmp.sock');
  const sockets = new Set<net.Socket>();
  const failures: unknown[] = [];
  let turn = Promise.resolve();

  const run = async (peer: FakePeer): Promise<void> => {
    try {
      await script(peer);
    } catch (thrown) {
      if (!(thrown instanceof ClientLeft)) failures.push(thrown);
    }
    await peer.gone();
  };
  const server = net.createServer((socket) => {
    sockets.add(socket);
    turn = turn.then(() => run(new FakePeer(socket)));
  });
  server.listen(path);
  await once(server, 'listening');

  return {
    path,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await turn;
      await rm(directory, { recursive: true });
      if (failures.length > 0) throw new AggregateError(failures, 'the script of the fake QMP server failed');
    },
  };
}
