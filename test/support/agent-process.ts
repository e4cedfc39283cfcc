/**
 * An agent as a program of its own, on a hub of the test's: to be killed wherever the test likes and begun anew on what it left. Disposing
 * ends it with SIGKILL; its VMs go on.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Failpoint } from '../../agent/failpoint.ts';
import { identityOf } from '../../agent/process-identity.ts';
import { cacheDirectory } from '../../cli/image/cache.ts';
import { newCommandId } from '../../shared/command-id.ts';
import type { JsonObject } from '../../shared/errors.ts';
import type { Line } from '../../shared/line/line.ts';
import type { AgentMethodName, ParamsInput, Result } from '../../shared/protocol/methods.ts';
import { parseResult } from '../../shared/protocol/validate.ts';
import { FakeHub } from './fake-hub.ts';

const ENTRY = fileURLToPath(new URL('../../bin/fairlead.ts', import.meta.url));
const CALL_TIMEOUT_MS = 60_000;

export interface AgentProcess extends AsyncDisposable {
  call<M extends AgentMethodName>(method: M, params: ParamsInput<M>, commandId?: string): Promise<Result<M>>;
  /** Settles when a guest has said to this agent that it is ready. */
  readonly ready: Promise<void>;
  /** Gives a command during which the agent comes to its failpoint, and kills it there. */
  dieDuring<M extends AgentMethodName>(method: M, params: ParamsInput<M>, commandId: string): Promise<void>;
  kill(): Promise<void>;
}

export interface Program {
  readonly pid: number;
  readonly isQemu: boolean;
}

export interface CrashingHost extends AsyncDisposable {
  readonly directory: string;
  readonly images: string;
  /** Begins an agent on what the last one left, and waits for its line. */
  start(failpoint?: Failpoint): Promise<AgentProcess>;
  /** Programs that run with something of this host in their arguments: QEMU, the vsock daemon. */
  programs(): Program[];
}

/** `vsockDaemon` is the path of vhost-device-vsock; without it, there is no vsock. */
export async function crashingHost(vsockDaemon?: string): Promise<CrashingHost> {
  const directory = await mkdtemp(join(tmpdir(), 'fl-crash-'));
  const images = join(directory, 'state', 'images');
  await mkdir(images, { recursive: true });
  const hub = await FakeHub.start();
  const programs = (): Program[] => programsWith(directory);
  let running: AgentProcess | undefined;
  return {
    directory,
    images,
    programs,
    async start(failpoint) {
      await running?.[Symbol.asyncDispose]();
      running = await startAgent(hub, { directory, vsockDaemon }, failpoint);
      return running;
    },
    async [Symbol.asyncDispose]() {
      await running?.[Symbol.asyncDispose]();
      await hub[Symbol.asyncDispose]();
      for (const { pid } of programs()) process.kill(pid, 'SIGKILL');
      await rm(directory, { recursive: true, force: true });
    },
  };
}

async function startAgent(
  hub: FakeHub,
  { directory, vsockDaemon }: { readonly directory: string; readonly vsockDaemon: string | undefined },
  failpoint: Failpoint | undefined,
): Promise<AgentProcess> {
  const connected = hub.nextLine();
  const ready = new Promise<void>((resolve) => {
    hub.on('notification', (_, { type }) => {
      if (type === 'vm.ready') resolve();
    });
  });
  const vsock = vsockDaemon === undefined ? ['off'] : ['vhost-user', '--vhost-device-vsock', vsockDaemon];
  const images = ['--image-roots', [join(directory, 'state', 'images'), cacheDirectory()].join(',')];
  const args = [
    '--hub',
    hub.address,
    '--host',
    'edge-1',
    '--token',
    'token-1',
    '--http-listen',
    'off',
    ...images,
    '--vsock',
    ...vsock,
  ];
  const folders = (['state', 'run', 'ram'] as const).flatMap((name) => [`--${name}-dir`, join(directory, name)]);
  const child = spawn(process.execPath, [ENTRY, 'agent', ...args, ...folders, '--log-level', 'warn'], {
    env: {
      PATH: process.env['PATH'] ?? '',
      HOME: directory,
      NODE_COMPILE_CACHE: process.env['NODE_COMPILE_CACHE'],
      ...(failpoint === undefined ? {} : { FAIRLEAD_FAILPOINT: failpoint }),
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const ended = once(child, 'close');
  const { atFailpoint, words } = listen(child, ended);
  const line = await Promise.race([
    connected,
    ended.then(() => Promise.reject(new Error(`the agent ended: ${words.join('\n')}`))),
  ]);
  const kill = async (): Promise<void> => {
    child.kill('SIGKILL');
    await ended;
  };
  const call = caller(line);
  return {
    call,
    ready,
    async dieDuring(method, params, commandId) {
      const answered = call(method, params, commandId).then((answer) =>
        Promise.reject(new Error(`answered before the failpoint: ${JSON.stringify(answer)}`)),
      );
      await Promise.race([atFailpoint, answered]);
      await kill();
      await answered.catch(() => {});
    },
    kill,
    [Symbol.asyncDispose]: kill,
  };
}

function listen(child: ChildProcess, ended: Promise<unknown>): { atFailpoint: Promise<void>; words: string[] } {
  const words: string[] = [];
  const { promise: atFailpoint, resolve, reject } = Promise.withResolvers<void>();
  atFailpoint.catch(() => {});
  // SAFETY: both are pipes.
  const [stdout, stderr] = [child.stdout as NodeJS.ReadableStream, child.stderr as NodeJS.ReadableStream];
  createInterface({ input: stdout }).on('line', (text) => words.push(text));
  createInterface({ input: stderr }).on('line', (text) => {
    words.push(text);
    if (text.startsWith('{"failpoint":')) resolve();
  });
  void ended.then(() => reject(new Error(`the agent ended before its failpoint: ${words.join('\n')}`)));
  return { atFailpoint, words };
}

function caller(line: Line): AgentProcess['call'] {
  return async (method, params, commandId = newCommandId()) => {
    // SAFETY: params of the contract are plain JSON.
    const json = params as unknown as JsonObject;
    return parseResult(method, await line.peer.call(method, json, { timeoutMs: CALL_TIMEOUT_MS, meta: { commandId } }));
  };
}

/** Those of VMs whose command lines have that text in them. */
export function programsWith(text: string): Program[] {
  const pids = readdirSync('/proc').filter((entry) => /^\d+$/.test(entry));
  return pids.map(Number).flatMap((pid) => {
    try {
      const args = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
      if (!args.includes(text) || args.includes('fairlead.ts') || identityOf(pid) === undefined) return [];
      return { pid, isQemu: args.includes('-uuid') };
    } catch {
      // It ended meanwhile.
      return [];
    }
  });
}
