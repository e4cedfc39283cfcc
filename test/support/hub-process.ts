/** `fairlead hub` as a process of its own on one port and one data directory, to be killed and started again. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { ownPort } from './own-port.ts';
import { postRpc } from './test-hub.ts';

const ENTRY = fileURLToPath(new URL('../../bin/fairlead.js', import.meta.url));

export class HubProcess implements AsyncDisposable {
  readonly port: number;
  readonly #directory: string;
  #child: ChildProcess | undefined;

  private constructor(port: number, directory: string) {
    this.port = port;
    this.#directory = directory;
  }

  static async start(): Promise<HubProcess> {
    const hub = new HubProcess(await ownPort(), await mkdtemp(join(tmpdir(), 'fl-hub-')));
    await hub.start();
    return hub;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Resolves when it listens. */
  async start(): Promise<void> {
    const args = ['--data-dir', this.#directory, '--listen', `127.0.0.1:${this.port}`, '--drain-ms', '500'];
    const child = spawn(process.execPath, [ENTRY, 'hub', ...args], { stdio: ['ignore', 'pipe', 'ignore'] });
    this.#child = child;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    createInterface({ input: child.stdout }).on('line', (line) => {
      if (line.includes('hub listens on')) resolve();
    });
    child.once('exit', (code) => reject(new Error(`the hub ended with ${code} before it listened`)));
    await promise;
  }

  /** Stopped, it stands still with its port open; continued, it goes on. */
  signal(signal: 'SIGSTOP' | 'SIGCONT'): void {
    this.#child?.kill(signal);
  }

  /** Resolves when it is gone. */
  async end(signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    this.#child = undefined;
    const exited = once(child, 'exit');
    child.kill(signal);
    await exited;
  }

  async adminToken(): Promise<string> {
    return (await readFile(join(this.#directory, 'admin.token'), 'utf8')).trim();
  }

  async enrolToken(): Promise<string> {
    const call = { jsonrpc: '2.0', id: 1, method: 'token.create', params: { kind: 'enrol' } };
    return String((await postRpc(this.url, await this.adminToken(), call)).body.result?.['token']);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end('SIGKILL');
    await rm(this.#directory, { recursive: true });
  }
}
