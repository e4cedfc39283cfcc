/** `fairlead hub` as a process: configuration, exit codes, signals, and what survives `kill -9`. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { generateHostKey } from '../../shared/node/host-key.ts';
import { connectTestAgent, enrolHost } from '../support/test-agent.ts';
import { postRpc } from '../support/test-hub.ts';

const ENTRY = fileURLToPath(new URL('../../bin/fairlead.ts', import.meta.url));

interface HubProcess {
  readonly child: ChildProcess;
  readonly output: { stdout: string; stderr: string };
  /** Exit code; null after a signal. */
  readonly exited: Promise<number | null>;
}

function run(args: readonly string[], env: NodeJS.ProcessEnv = {}): HubProcess {
  const child = spawn(process.execPath, [ENTRY, 'hub', ...args], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const output = { stdout: '', stderr: '' };
  child.stdout.on('data', (chunk) => (output.stdout += String(chunk)));
  child.stderr.on('data', (chunk) => (output.stderr += String(chunk)));
  return { child, output, exited: once(child, 'close').then(([code]) => code) };
}

/** Resolves with the address once the hub says that it listens. */
async function listening({ child, output, exited }: HubProcess): Promise<string> {
  if (child.stdout === null) throw new Error('no standard output');
  const { promise, resolve } = Promise.withResolvers<string>();
  createInterface({ input: child.stdout }).on('line', (line) => {
    const url = /hub listens on (http\S+)"/.exec(line)?.[1];
    if (url !== undefined) resolve(url);
  });
  const ended = exited.then(() => Promise.reject(new Error(`the hub ended: ${output.stdout}${output.stderr}`)));
  return await Promise.race([promise, ended]);
}

async function temporaryDirectory() {
  const path = await mkdtemp(join(tmpdir(), 'hub-main-'));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true }) };
}

describe('fairlead hub', () => {
  it('prints its configuration, and what is wrong with it', async () => {
    const printed = run(['--print-config', '--max-hosts', '7'], { HOME: '/home/somebody' });
    expect(await printed.exited).toBe(0);
    expect(printed.output.stdout).toContain('maxHosts: 7');
    const wrong = run(['--listen', '0.0.0.0:0']);
    expect(await wrong.exited).toBe(2);
    expect(wrong.output.stderr).toContain('insecure');
  });

  it('keeps what it acknowledged through kill -9, and ends with 0 on SIGTERM', async () => {
    await using directory = await temporaryDirectory();
    const args = ['--data-dir', directory.path, '--listen', '127.0.0.1:0', '--drain-ms', '0'];
    const first = run(args);
    const url = await listening(first);
    const adminToken = (await readFile(join(directory.path, 'admin.token'), 'utf8')).trim();
    const call = { jsonrpc: '2.0', id: 1, method: 'token.create', params: { kind: 'enrol' } };
    const token = String((await postRpc(url, adminToken, call)).body.result?.['token']);
    const key = generateHostKey();
    expect(await enrolHost(url, { host: 'h1', key, token })).toMatchObject({ status: 200 });
    first.child.kill('SIGKILL');
    await first.exited;

    const second = run(args);
    const again = await listening(second);
    const other = run(args);
    expect(await enrolHost(again, { host: 'h2', key: generateHostKey(), token })).toMatchObject({ status: 401 });
    const agent = await connectTestAgent({ url: again, host: 'h1', key });
    expect(await other.exited).toBe(4);
    expect(other.output.stderr).toContain('another process has it open');
    second.child.kill('SIGTERM');
    expect(await second.exited).toBe(0);
    expect(await agent.line.closed).toMatchObject({ code: 1001 });
    expect(second.output.stdout).toContain('"msg":"hub stopped"');
    expect(first.output.stdout + second.output.stdout).not.toContain(token);
  });

  it('ends with 5 when the address is taken', async () => {
    await using directory = await temporaryDirectory();
    const first = run(['--data-dir', ':memory:', '--listen', '127.0.0.1:0']);
    const { port } = new URL(await listening(first));
    const second = run(['--data-dir', join(directory.path, 'new'), '--listen', `127.0.0.1:${port}`]);
    expect(await second.exited).toBe(5);
    expect(second.output.stderr).toContain('EADDRINUSE');
    first.child.kill('SIGINT');
    expect(await first.exited).toBe(0);
  });
});
