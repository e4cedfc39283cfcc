/**
 * `fairlead launch`: runs the release of the agent that this host has settled on, and changes it for another that proves itself.
 *
 *              ┌──────────── staged: the old one ends ───────────┐
 *              │                                                 ▼
 *     ──▶ running ◀─── healthy: kept ──── trying ◀── begun as a process of its own
 *          │   ▲                            │
 *          │   └── it ended, or its time ───┘   (record.ts says what is durable when)
 *          │
 *          ├ crashed ──▶ a wait ──▶ running      five times in a row, before it was of use: the release before it
 *          └ told to stop, or ended in order ──▶ done
 *
 * It knows nothing of hubs, VMs and archives, and imports nothing but Node, so that it need not change when the agent does. A release that
 * cannot be started at all (its files are gone) is passed over for the previous one, and that for the installed one. Whatever is killed or
 * cut off at any point, the next launcher begins with the release that was kept last, or with the one that is still owed its trial.
 */
import { createHash } from 'node:crypto';
import { existsSync, realpathSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Child, type Ending } from './child.ts';
import type { ToLauncher } from './messages.ts';
import { endOrphan, noteChild } from './orphan.ts';
import {
  begin,
  crashed,
  FIRST_RECORD,
  fail,
  INSTALLED,
  keep,
  type LauncherRecord,
  MAX_CRASHES,
  type Release,
  releaseDirectory,
  stage,
  type Update,
  wasOfUse,
} from './record.ts';
import { RecordFile } from './record-file.ts';

const USAGE = `usage: fairlead launch [--releases DIRECTORY] AGENT-FLAG…

Runs the agent with these flags, and other releases of it when the hub says so (docs/howto/update-agents.md).
  --releases DIRECTORY   where they are, and which of them runs; by default /var/lib/fairlead/releases
`;
const DEFAULT_RELEASES = '/var/lib/fairlead/releases';
/** Of a package, in which the file that Node runs is always there. */
const ENTRY = 'bin/fairlead.js';
/** For an agent to end in order: less than a service manager gives. */
const LEAVE_MS = 20_000;
/** The same of one that has failed already, whose VMs wait for an agent that works. */
const FAILED_LEAVE_MS = 3_000;
const RESTART_MS = { first: 1_000, most: 30_000 } as const;
/** One that ran so long begins anew with the short wait. */
const STEADY_MS = 60_000;
/**
 * A release is of use once it has been connected for so long, which is time enough to give it another one; or when it has run so long without,
 * for its hub may be away.
 */
const OF_USE_MS = { connected: 30_000, alone: 600_000 } as const;
const EXIT_USAGE = 2;

interface Running {
  readonly child: Child;
  readonly isTrial: boolean;
  /** Why the trial has failed, or would if it ended now. */
  waitsFor: string | undefined;
  /** Runs out when it is of use. */
  untilOfUse: NodeJS.Timeout;
  isOfUse: boolean;
}

/** Runs until it is told to stop, or the agent ends in order. Says how the process is to end. */
export async function runLauncher(argv: readonly string[]): Promise<number> {
  const [first, directory, ...rest] = argv;
  if (argv.includes('--help')) {
    process.stdout.write(USAGE);
    return 0;
  }
  const isNamed = first === '--releases' && directory !== undefined;
  try {
    const launcher = new Launcher(resolve(isNamed ? directory : DEFAULT_RELEASES), isNamed ? rest : argv);
    return await launcher.run();
  } catch (error) {
    say('error', `launcher: ${error instanceof Error ? error.message : String(error)}`);
    return 1;
  }
}

class Launcher {
  readonly #directory: string;
  readonly #args: readonly string[];
  readonly #file: RecordFile;
  readonly #stopping = new AbortController();
  #record: LauncherRecord = FIRST_RECORD;
  #running: Running | undefined;

  constructor(directory: string, args: readonly string[]) {
    this.#directory = directory;
    this.#args = args;
    this.#file = new RecordFile(directory);
  }

  async run(): Promise<number> {
    const lock = await becomeSoleLauncher(this.#directory);
    this.#record = this.#file.read();
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => this.#stop());
    try {
      await endOrphan(this.#directory, LEAVE_MS, (pid) => say('warn', 'an agent of an earlier launcher hangs: killed', { pid }));
      return await this.#runReleases();
    } finally {
      lock.close();
    }
  }

  async #runReleases(): Promise<number> {
    let waitMs: number = RESTART_MS.first;
    for (;;) {
      if (this.#stopping.signal.aborted) return 0;
      const { release, isTrial } = this.#begin();
      const startedAt = performance.now();
      const ending = await this.#runOne(release, isTrial);
      if (this.#stopping.signal.aborted) return ending.code ?? 1;
      const isFailedTrial = isTrial && this.#record.current !== release;
      if (isFailedTrial || this.#record.update?.stage === 'staged') continue;
      if (ending.code === 0 || ending.code === EXIT_USAGE) return ending.code;
      if (performance.now() - startedAt > STEADY_MS) waitMs = RESTART_MS.first;
      const { current, crashes } = this.#record;
      if (current === release) say('warn', `the agent ${wordsOf(ending)}: it is started again`, { release, waitMs, crashes });
      else waitMs = RESTART_MS.first;
      await sleep(waitMs, undefined, { signal: this.#stopping.signal }).catch(() => {});
      waitMs = Math.min(waitMs * 2, RESTART_MS.most);
    }
  }

  /** What runs next; durable before it does. */
  #begin(): { release: Release; isTrial: boolean } {
    const next = begin(this.#record, now());
    if (next.record !== this.#record && !this.#change(next.record) && next.isTrial) {
      this.#record = fail(this.#record, 'the launcher could not write its record', now());
      return this.#begin();
    }
    // A failure that could not be written down is found again as one by the next launcher.
    this.#record = next.record;
    return { release: next.isTrial ? next.release : this.#startable(next.release), isTrial: next.isTrial };
  }

  async #runOne(release: Release, isTrial: boolean): Promise<Ending> {
    const { update } = this.#record;
    say('info', isTrial ? 'a release is on trial' : 'a release runs', { release });
    const child = new Child(entryOf(this.#directory, release), this.#args, (message) => this.#hear(running, message));
    const untilOfUse = setTimeout(() => this.#ofUse(running), OF_USE_MS.alone);
    const running: Running = { child, isTrial, waitsFor: undefined, untilOfUse, isOfUse: false };
    this.#running = running;
    if (child.pid !== undefined && !noteChild(this.#directory, child.pid)) {
      say('warn', 'the pid of the agent could not be written down: no other launcher could end it if it hung', {
        pid: child.pid,
      });
    }
    child.tell({ type: 'hello', directory: this.#directory, release, record: this.#record });
    const trial = isTrial && update !== undefined ? this.#limit(running, update) : undefined;
    const ending = await child.ended;
    clearTimeout(trial);
    clearTimeout(running.untilOfUse);
    this.#running = undefined;
    if (this.#stopping.signal.aborted) return ending;
    if (this.#record.update?.stage === 'trying') this.#endTrial(running, ending);
    else if (this.#isCrash(release, running, ending)) this.#countCrash(ending);
    return ending;
  }

  #limit(running: Running, { healthTimeoutMs }: Update): NodeJS.Timeout {
    return setTimeout(() => {
      if (this.#record.update?.stage !== 'trying') return;
      const { waitsFor = 'it did not say why' } = running;
      this.#fail(`it was not healthy within ${healthTimeoutMs} ms: ${waitsFor}`);
      running.child.leave(FAILED_LEAVE_MS, { isTold: true });
    }, healthTimeoutMs);
  }

  #endTrial({ waitsFor }: Running, ending: Ending): void {
    this.#fail(`it ${wordsOf(ending)} before it was healthy${waitsFor === undefined ? '' : `: ${waitsFor}`}`);
  }

  #hear(running: Running, message: ToLauncher): void {
    if (running !== this.#running) return;
    if (message.type === 'stage') this.#stage(running, message.update);
    if (message.type === 'waits') running.waitsFor = message.why;
    if (message.type === 'healthy') this.#keep(running);
    if (message.type === 'connected') {
      clearTimeout(running.untilOfUse);
      running.untilOfUse = setTimeout(() => this.#ofUse(running), OF_USE_MS.connected);
    }
  }

  #ofUse(running: Running): void {
    running.isOfUse = true;
    const settled = wasOfUse(this.#record);
    if (settled !== this.#record && this.#change(settled)) running.child.tell({ type: 'settled', record: settled });
  }

  /** Of the release that is settled on, before it was of use. */
  #isCrash(release: Release, { isOfUse }: Running, { code }: Ending): boolean {
    const { current, update } = this.#record;
    return update === undefined && current === release && !isOfUse && code !== 0 && code !== EXIT_USAGE;
  }

  /** In memory too where the disk refuses it. */
  #countCrash(ending: Ending): void {
    const { current } = this.#record;
    const counted = crashed(this.#record, `it ${wordsOf(ending)}`, now());
    this.#change(counted);
    this.#record = counted;
    if (counted.current === current) return;
    const goesOnWith = counted.current;
    say('error', `the release crashed ${MAX_CRASHES} times in a row, and is left for the one before`, {
      release: current,
      goesOnWith,
    });
  }

  #stage({ child }: Running, update: Update): void {
    const staged = this.#stopping.signal.aborted ? 'the agent is being stopped' : stage(this.#record, update);
    const { id } = update;
    if (typeof staged === 'string') child.tell({ type: 'refused', id, why: staged });
    else if (!this.#change(staged)) child.tell({ type: 'refused', id, why: 'the launcher could not write its record' });
    else {
      child.tell({ type: 'staged', id });
      child.leave(LEAVE_MS, { isTold: false });
    }
  }

  #keep({ child, isTrial }: Running): void {
    if (!isTrial || this.#record.update?.stage !== 'trying') return;
    const kept = keep(this.#record, now());
    if (!this.#change(kept)) {
      this.#fail('the launcher could not write its record');
      child.leave(FAILED_LEAVE_MS, { isTold: true });
      return;
    }
    say('info', 'the release is healthy, and stays', { release: kept.current, before: kept.previous });
    child.tell({ type: 'kept', record: kept });
  }

  #fail(failure: string): void {
    const { release } = this.#record.update ?? {};
    const failed = fail(this.#record, failure, now());
    this.#change(failed);
    this.#record = failed;
    say('error', `the release is not kept: ${failure}`, { release, goesOnWith: failed.current });
  }

  /** False where the disk has refused it, and the record is as it was. */
  #change(record: LauncherRecord): boolean {
    try {
      this.#file.write(record);
      this.#record = record;
      return true;
    } catch (error) {
      say('error', `the launcher's record could not be written: ${String(error)}`);
      return false;
    }
  }

  #startable(release: Release): Release {
    const { previous } = this.#record;
    const found = [release, previous].find((one) => one !== undefined && existsSync(entryOf(this.#directory, one)));
    if (found !== release) say('error', 'the files of the release are gone', { release, goesOnWith: found ?? INSTALLED });
    return found ?? INSTALLED;
  }

  /** The first asks, the second ends the agent on the spot. VMs go on either way. */
  #stop(): void {
    if (this.#stopping.signal.aborted) this.#running?.child.kill();
    this.#stopping.abort();
    this.#running?.child.leave(LEAVE_MS, { isTold: true });
  }
}

function entryOf(directory: string, release: Release): string {
  if (release === INSTALLED) return fileURLToPath(new URL(`../../${ENTRY}`, import.meta.url));
  return join(releaseDirectory(directory, release), ENTRY);
}

/** By a socket that is no file: whoever has it is alive. @throws Error while another launcher has the directory */
async function becomeSoleLauncher(directory: string): Promise<Server> {
  const name = createHash('sha256').update(realpathSync(directory)).digest('hex').slice(0, 32);
  const server = createServer((socket) => socket.destroy()).unref();
  try {
    await new Promise<void>((taken, failed) => {
      server.once('error', failed);
      server.listen(`\0fairlead-launcher-${name}`, taken);
    });
    return server;
  } catch (cause) {
    throw new Error(`another launcher runs with ${directory}`, { cause });
  }
}

function wordsOf({ code, signal, error }: Ending): string {
  if (error !== undefined) return `could not be started (${error.message})`;
  return signal === null ? `ended with code ${code}` : `was ended by ${signal}`;
}

function now(): string {
  return new Date().toISOString();
}

/** One JSON object a line on standard output, as the agent's own log. */
function say(level: 'info' | 'warn' | 'error', msg: string, fields: object = {}): void {
  process.stdout.write(`${JSON.stringify({ level, time: now(), ...fields, msg })}\n`);
}
