import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it } from 'vitest';
import { loadNative } from '../../native/index.ts';
import { FakeHub } from '../support/fake-hub.ts';
import { notifySink } from '../support/notify-sink.ts';

const MAIN = fileURLToPath(new URL('../../agent/main.ts', import.meta.url));

/** Why no socket of a service manager can be played, or undefined where it can. */
function whyNoSink(): string | undefined {
  const native = loadNative();
  if (!native.available) return native.reason;
  return existsSync('/usr/bin/cc') ? undefined : 'no C compiler for the service manager that is played';
}

const noSink = whyNoSink();
if (noSink !== undefined) console.log(`skipped: ${noSink}`);

const scope: AsyncDisposable[] = [];
afterEach(async () => {
  for (const resource of scope.splice(0).toReversed()) await resource[Symbol.asyncDispose]();
});

interface Program {
  readonly process: ChildProcess;
  readonly lines: Record<string, unknown>[];
  readonly stderr: () => string;
  readonly ended: Promise<number | null>;
  /** The first log line with that message. */
  said(message: string): Promise<Record<string, unknown>>;
}

/** Runs the agent as a program of its own. */
function runAgent(argv: readonly string[], env: Record<string, string> = {}): Program {
  const script = `process.exitCode = await (await import(${JSON.stringify(MAIN)})).runAgent(process.argv.slice(1))`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script, '--', ...argv], {
    env: { PATH: process.env['PATH'] ?? '', HOME: tmpdir(), NODE_COMPILE_CACHE: process.env['NODE_COMPILE_CACHE'], ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const lines: Record<string, unknown>[] = [];
  const waiting = new Set<() => void>();
  createInterface({ input: child.stdout }).on('line', (line) => {
    lines.push(line.startsWith('{"') ? JSON.parse(line) : { text: line });
    for (const look of waiting) look();
  });
  let stderr = '';
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  const ended = once(child, 'close').then(([code]) => code as number | null);
  const said = (message: string) =>
    new Promise<Record<string, unknown>>((resolve, reject) => {
      const look = () => {
        const line = lines.find((candidate) => String(candidate['msg']).includes(message));
        if (line !== undefined) resolve(line);
      };
      waiting.add(look);
      look();
      void ended.then((code) =>
        reject(new Error(`the agent ended with ${code} before it said ${message}: ${JSON.stringify(lines)}${stderr}`)),
      );
    });
  scope.push({
    [Symbol.asyncDispose]: async () => {
      child.kill('SIGKILL');
      await ended;
    },
  });
  return { process: child, lines, stderr: () => stderr, ended, said };
}

async function directory(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'fl-main-'));
  scope.push({ [Symbol.asyncDispose]: () => rm(path, { recursive: true }) });
  return path;
}

async function startHub(): Promise<FakeHub> {
  const hub = await FakeHub.start();
  scope.push(hub);
  return hub;
}

const common = ['--host', 'edge-1', '--token', 'token-1', '--vsock', 'off', '--http-listen', '127.0.0.1:0'];

describe('fairlead agent', () => {
  it('runs until it is asked to end, and ends with 0', async () => {
    const hub = await startHub();
    const stateDir = await directory();
    const agent = runAgent(['--hub', hub.address, '--state-dir', stateDir, '--run-dir', join(stateDir, 'run'), ...common]);
    const line = await hub.nextLine();
    await agent.said('agent runs');
    agent.process.kill('SIGTERM');
    expect(await agent.ended).toBe(0);
    expect(await line.closed).toMatchObject({ code: 1000 });
    expect(JSON.stringify(agent.lines)).not.toContain('token-1');
    expect(agent.lines).toContainEqual(
      expect.objectContaining({ level: 'info', host: 'edge-1', msg: 'agent has stopped, VMs go on' }),
    );
    expect(agent.stderr()).toBe('');
  });

  it('ends on the spot at the second signal', async () => {
    const hub = await startHub();
    const stateDir = await directory();
    const agent = runAgent(['--hub', hub.address, '--state-dir', stateDir, '--drain-timeout', '60s', ...common]);
    const line = await hub.nextLine();
    await agent.said('agent runs');
    // A call under way, which the drain waits for.
    line.peer.call('vm.events', { follow: true }, { timeoutMs: 0 }).catch(() => {});
    await line.peer.call('vm.list', {});
    agent.process.kill('SIGTERM');
    await agent.said('agent stops');
    agent.process.kill('SIGINT');
    expect(await agent.ended).toBe(130);
  });

  it('prints its configuration without the secret', async () => {
    const agent = runAgent(['--print-config', '--hub', 'wss://hub.example', '--state-dir', '/s', ...common]);
    expect(await agent.ended).toBe(0);
    const text = agent.lines.map(({ text }) => text).join('\n');
    expect(text).toContain('"token": "(redacted)"');
    expect(text).not.toContain('token-1');
  });

  it.each([
    [['--colour', 'red'], 'colour'],
    [[], 'no hub is known'],
    [['--hub', 'ws://10.9.8.7'], 'plain ws:'],
  ])('refuses %j with exit code 2', async (argv, message) => {
    const agent = runAgent(argv);
    expect(await agent.ended).toBe(2);
    expect(agent.stderr()).toContain(message);
  });

  it('does not start where its state cannot be kept, and says why', async () => {
    const agent = runAgent(['--hub', 'ws://127.0.0.1:1', '--state-dir', '/dev/null/fairlead', ...common]);
    expect(await agent.ended).toBe(1);
    expect(agent.lines.at(-1)).toMatchObject({ level: 'error', msg: expect.stringContaining('/dev/null/fairlead') });
  });

  it.skipIf(noSink !== undefined)('tells the service manager that it is ready, alive and ending', async () => {
    await using sink = await notifySink('notify');
    const stateDir = await directory();
    const argv = ['--hub', 'ws://127.0.0.1:1', '--state-dir', stateDir, ...common];
    const agent = runAgent(argv, { NOTIFY_SOCKET: sink.path, WATCHDOG_USEC: '20000' });
    expect(await sink.next()).toBe('READY=1');
    expect(await sink.next()).toBe('WATCHDOG=1');
    agent.process.kill('SIGTERM');
    let last = await sink.next();
    while (last === 'WATCHDOG=1') last = await sink.next();
    expect(last).toBe('STOPPING=1');
    expect(await agent.ended).toBe(0);
  });
});
