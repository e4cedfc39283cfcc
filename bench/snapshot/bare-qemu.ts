/**
 * A QEMU driven by hand, with the very command line of a VM of ours but files and sockets of its own: the baseline, which saves by a plain
 * `migrate unix:` without limit into memory (tmpfs), neither hashed nor synced, and is restored from there.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createReadStream, createWriteStream, existsSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { createConnection, createServer } from 'node:net';
import { join } from 'node:path';
import { finished, pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { QmpClient } from '../../agent/qmp/client.ts';

const LOOK_MS = 1;
const CONNECT_MS = 10_000;

export interface Machine {
  readonly binary: string;
  readonly argv: readonly string[];
}

export class BareQemu implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #qmp: QmpClient;
  readonly #directory: string;

  private constructor(child: ChildProcess, qmp: QmpClient, directory: string) {
    this.#child = child;
    this.#qmp = qmp;
    this.#directory = directory;
  }

  /** `directory` is in memory, and its own. */
  static async spawn({ binary, argv }: Machine, directory: string, more: readonly string[] = []): Promise<BareQemu> {
    const path = join(directory, 'qmp');
    const child = spawn(binary, [...ownArguments(argv, directory), ...more], { stdio: 'ignore' });
    await once(child, 'spawn');
    while (!existsSync(path)) {
      if (child.exitCode !== null) throw new Error(`the QEMU of the baseline ended with ${child.exitCode}`);
      await sleep(LOOK_MS);
    }
    const qmp = await QmpClient.connect({ path, connectTimeoutMs: CONNECT_MS });
    await qmp.execute('migrate-set-capabilities', { capabilities: [{ capability: 'events', state: true }] });
    return new BareQemu(child, qmp, directory);
  }

  async run(): Promise<void> {
    await this.#qmp.execute('cont');
  }

  /** From a guest that runs to a file that is written; it goes on afterwards, out of the figure. Milliseconds. */
  async save(file: string): Promise<number> {
    const path = join(this.#directory, 'out');
    const server = createServer().listen(path);
    await once(server, 'listening');
    const startedAt = performance.now();
    await this.#qmp.execute('stop');
    await this.#qmp.execute('migrate-set-parameters', { 'max-bandwidth': 0 });
    using events = this.#qmp.listen({ names: ['MIGRATION'] });
    const arriving = once(server, 'connection');
    await this.#qmp.execute('migrate', { uri: `unix:${path}` });
    const [socket] = await arriving;
    const written = createWriteStream(file);
    await Promise.all([pipeline(socket, written), this.#end(events)]);
    await finished(written).catch(() => {});
    const ms = performance.now() - startedAt;
    server.close();
    await this.run();
    return ms;
  }

  /** Into one that waits, until its guest runs. */
  async load(file: string): Promise<void> {
    const path = join(this.#directory, 'in');
    using events = this.#qmp.listen({ names: ['MIGRATION'] });
    await this.#qmp.execute('migrate-incoming', { uri: `unix:${path}` });
    await Promise.all([
      pipeline(createReadStream(file, { highWaterMark: 1024 ** 2 }), createConnection(path)),
      this.#end(events),
    ]);
    await this.run();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#qmp.close();
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await exited;
  }

  async #end(events: ReturnType<QmpClient['listen']>): Promise<void> {
    for (;;) {
      const { data } = await events.take();
      if (data['status'] === 'completed') return;
      if (data['status'] === 'failed') throw new Error("the baseline's migration failed");
    }
  }
}

/** Random bytes into RAM that is in a file, past what firmware uses: all that a guest could have written, as far as a save can tell. */
export async function fillRam(path: string, bytes: number): Promise<void> {
  await using file = await open(path, 'r+');
  await using random = await open('/dev/urandom', 'r');
  const block = Buffer.alloc(1024 ** 2);
  for (let done = 0; done < bytes; done += block.length) {
    await random.read(block, 0, block.length, null);
    await file.write(block, 0, block.length, FIRST_FREE + done);
  }
}
const FIRST_FREE = 32 * 1024 ** 2;

export function ramFileOf(argv: readonly string[]): string {
  const path = argv.map((argument) => /"mem-path":"([^"]+)"/.exec(argument)?.[1]).find((found) => found !== undefined);
  if (path === undefined) throw new Error('the VM has no RAM in a file');
  return path;
}

/** The machine of the other, with everything that is not the guest's to see elsewhere. */
function ownArguments(argv: readonly string[], directory: string): string[] {
  const ram = ramFileOf(argv);
  return argv.map((argument) => {
    if (argument.startsWith('socket,id=qmp,')) return `socket,id=qmp,path=${join(directory, 'qmp')},server=on,wait=off`;
    if (argument.startsWith('socket,id=monitor,')) return 'null,id=monitor';
    if (argument.startsWith('stdio,id=trail')) return 'null,id=trail';
    if (/^\w+,id=console,/.test(argument)) return 'null,id=console';
    return argument.replace(ram, join(directory, 'ram'));
  });
}
