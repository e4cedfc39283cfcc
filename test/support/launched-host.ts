/**
 * A host whose agent runs below a launcher, on a real hub, and releases of that agent: small archives whose entry runs this very tree, or does what a
 * bad release would.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import { expect, vi } from 'vitest';
import type { Failpoint } from '../../agent/failpoint.ts';
import type { LauncherRecord } from '../../agent/launcher/record.ts';
import { connectHub, type HubConnection } from '../../cli/connection.ts';
import { pushImage, readImage } from '../../cli/image/push-image.ts';
import { newCommandId } from '../../shared/command-id.ts';
import { releaseHost } from '../../shared/node/release-host.ts';
import { tarOf } from '../../shared/node/tar.ts';
import type { ParamsInput, Result } from '../../shared/protocol/methods.ts';
import { type ReleaseManifest, STATE_FORM } from '../../shared/protocol/release.ts';
import { startTestHub, type TestHub } from './test-hub.ts';

const ENTRY = fileURLToPath(new URL('../../bin/fairlead.ts', import.meta.url));
const TIMEOUT_MS = 120_000;

/** What the entry of a release does. */
export const ENTRIES = {
  good: `await import(${JSON.stringify(ENTRY)});`,
  crashing: 'process.exit(7);',
  /** Sound until the host changes: then it crashes at its start, as one would that cannot read what it finds. */
  fragile: `
    import { existsSync } from 'node:fs';
    const directory = process.argv[process.argv.indexOf('--state-dir') + 1];
    if (existsSync(directory + '/trap')) process.exit(9);
    await import(${JSON.stringify(ENTRY)});`,
  hanging: 'setInterval(() => {}, 1e6);',
  /** An agent that is whole, and knows no hub. */
  lost: `process.argv[process.argv.indexOf('--hub') + 1] = 'ws://127.0.0.1:9'; await import(${JSON.stringify(ENTRY)});`,
} as const;

export interface ReleaseSketch {
  readonly version: string;
  readonly entry?: keyof typeof ENTRIES;
  readonly manifest?: Partial<ReleaseManifest>;
  readonly files?: readonly string[];
}

export function archiveOf({ version, entry = 'good', manifest = {}, files = [] }: ReleaseSketch): Buffer {
  const { node: _, ...host } = releaseHost();
  const whole = {
    kind: 'fairlead-agent',
    version,
    contractVersion: 1,
    node: '24.0.0',
    ...host,
    stateForm: STATE_FORM,
    ...manifest,
  };
  const text = (path: string, content: string) => ({ path, content: Buffer.from(content), isExecutable: false });
  const all = [
    text('release.json', JSON.stringify(whole)),
    text('package.json', '{"type":"module"}'),
    text('bin/fairlead.js', `${ENTRIES[entry]} // ${version}`),
    ...files.map((path) => text(path, '')),
  ];
  return gzipSync(Buffer.concat([...tarOf(all)]));
}

interface LogLine {
  readonly level: string;
  readonly msg: string;
  readonly release?: string;
  readonly waitMs?: number;
}

export class Launched {
  readonly #child: ChildProcess;
  readonly #lines: LogLine[] = [];
  readonly #ended: Promise<unknown>;
  readonly atFailpoint: Promise<void>;

  constructor(child: ChildProcess) {
    this.#child = child;
    this.#ended = once(child, 'exit');
    const { promise, resolve } = Promise.withResolvers<void>();
    this.atFailpoint = promise;
    // SAFETY: both are pipes.
    const [stdout, stderr] = [child.stdout as NodeJS.ReadableStream, child.stderr as NodeJS.ReadableStream];
    createInterface({ input: stdout }).on('line', (line) => {
      if (line.startsWith('{')) this.#lines.push(JSON.parse(line));
    });
    createInterface({ input: stderr }).on('line', (line) => {
      if (line.startsWith('{"failpoint":')) resolve();
      else this.#lines.push({ level: 'stderr', msg: line });
    });
  }

  get log(): readonly LogLine[] {
    return this.#lines;
  }

  async end(signal: 'SIGKILL' | 'SIGTERM'): Promise<number | null> {
    this.#child.kill(signal);
    await this.#ended;
    return this.#child.exitCode;
  }
}

export class LaunchedHost implements AsyncDisposable {
  readonly directory: string;
  readonly hub: TestHub;
  readonly operator: HubConnection;
  readonly #flags: readonly string[];
  #launched: Launched | undefined;

  private constructor(directory: string, hub: TestHub, operator: HubConnection, flags: readonly string[]) {
    this.directory = directory;
    this.hub = hub;
    this.operator = operator;
    this.#flags = flags;
  }

  static async open(flags: readonly string[] = []): Promise<LaunchedHost> {
    const directory = await mkdtemp(join(tmpdir(), 'fl-upd-'));
    await mkdir(join(directory, 'releases'));
    const hub = await startTestHub({ dataDir: join(directory, 'hub') });
    const operator = await connectHub({ hub: hub.url, token: hub.adminToken }, { timeoutMs: TIMEOUT_MS });
    await writeFile(join(directory, 'token'), await hub.hub.bootstrap.enrolToken());
    return new LaunchedHost(directory, hub, operator, flags);
  }

  /** Begins a launcher on what the last one left, and waits for the agent's line. */
  async launch(failpoint?: Failpoint): Promise<Launched> {
    await this.#launched?.end('SIGKILL');
    const where = (name: string): string => join(this.directory, name);
    const args = ['--releases', where('releases'), '--hub', this.hub.url.replace('http', 'ws'), '--host', 'edge-1'];
    const more = [
      '--token-file',
      where('token'),
      '--state-dir',
      where('state'),
      '--run-dir',
      where('run'),
      '--http-listen',
      'off',
    ];
    const limits = ['--max-backoff', '200ms', '--drain-timeout', '1s'];
    const child = spawn(process.execPath, [ENTRY, 'launch', ...args, ...more, ...limits, ...this.#flags], {
      env: {
        PATH: process.env['PATH'] ?? '',
        HOME: this.directory,
        NODE_COMPILE_CACHE: process.env['NODE_COMPILE_CACHE'],
        ...(failpoint === undefined ? {} : { FAIRLEAD_FAILPOINT: failpoint }),
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#launched = new Launched(child);
    return this.#launched;
  }

  async connected(): Promise<void> {
    const look = async () => expect(await this.operator.call('host.get', { host: 'edge-1' })).toMatchObject({ connected: true });
    await vi.waitFor(look, { timeout: TIMEOUT_MS, interval: 50 });
  }

  /** Puts a release on the hub and says its digest. */
  async push(sketch: ReleaseSketch | Buffer): Promise<string> {
    const bytes = Buffer.isBuffer(sketch) ? sketch : archiveOf(sketch);
    const path = join(this.directory, `release-${createHash('sha256').update(bytes).digest('hex').slice(0, 8)}`);
    await writeFile(path, bytes);
    const local = await readImage(path);
    await pushImage(this.operator, local, { signal: new AbortController().signal });
    return local.digest;
  }

  /** Waits for the end, whatever becomes of the line. */
  update(params: ParamsInput<'agent.update'>, commandId = newCommandId()): Promise<Result<'agent.update'>> {
    const limits = { whenOffline: 'queue', commandId, timeoutMs: TIMEOUT_MS } as const;
    return this.operator.client.call('agent.update', { ...params, host: 'edge-1' }, limits);
  }

  release(): Promise<Result<'agent.release'>> {
    return this.operator.call('agent.release', {}, 'edge-1');
  }

  /** What the command line prints. */
  async cli(...args: readonly string[]): Promise<string> {
    const hub = ['--hub', this.hub.url, '--token', this.hub.adminToken];
    return (await promisify(execFile)(process.execPath, [ENTRY, ...hub, ...args])).stdout;
  }

  async record(): Promise<LauncherRecord> {
    return JSON.parse(await readFile(join(this.directory, 'releases/launcher.json'), 'utf8'));
  }

  /** The pid of the agent that the launcher runs now. */
  async agentPid(): Promise<number> {
    return JSON.parse(await readFile(join(this.directory, 'releases/child.json'), 'utf8')).pid;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#launched?.end('SIGTERM');
    await this.operator[Symbol.asyncDispose]();
    await this.hub[Symbol.asyncDispose]();
    await rm(this.directory, { recursive: true, force: true });
  }
}
