/** `fairlead up` in a process of its own, detached, so that it goes on when whoever started it ends. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdir, open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { FairleadError } from '../shared/errors.ts';
import { parseWith } from '../shared/protocol/parse-with.ts';
import { UpReady } from './up-state.ts';

const LOG_TAIL_CHARACTERS = 4096;

export interface BackgroundUp extends UpReady {
  readonly logPath: string;
  /** The last lines that hub and agent logged, for a failure's report. */
  logTail(): Promise<string>;
  /** Ends hub and agent and waits until they are gone. VMs go on: delete them first. */
  stop(): Promise<void>;
}

/**
 * Resolves when the agent is connected to the hub. `args` are those of `fairlead up`.
 * @throws PROCESS_FAILED with the end of the log when it ends before that.
 */
export async function startInBackground(dataDir: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<BackgroundUp> {
  await mkdir(dataDir, { recursive: true, mode: 0o700 });
  const logPath = join(dataDir, 'up.log');
  await using log = await open(logPath, 'a', 0o600);
  // An earlier run's lines say nothing of this one.
  const { size: loggedBefore } = await log.stat();
  const child = spawn(process.execPath, [entry(), 'up', ...args, '--data-dir', dataDir, '--ready-fd', '3'], {
    detached: true,
    stdio: ['ignore', log.fd, log.fd, 'pipe'],
    env,
  });
  const logTail = async (): Promise<string> => lastLines((await readFile(logPath)).subarray(loggedBefore).toString());
  // SAFETY: stdio says that the fourth is a pipe that the child writes to.
  const said = await text(child.stdio[3] as Readable);
  if (said === '')
    throw new FairleadError('PROCESS_FAILED', `hub and agent did not start; the log ${logPath} ends:\n${await logTail()}`);
  child.unref();
  return { ...parseWith(UpReady, JSON.parse(said), 'fairlead up'), logPath, logTail, stop: () => stop(child) };
}

/** The end of the log, in whole lines. */
function lastLines(log: string): string {
  if (log.length <= LOG_TAIL_CHARACTERS) return log;
  const tail = log.slice(-LOG_TAIL_CHARACTERS);
  return tail.slice(tail.indexOf('\n') + 1);
}

/** The launcher beside this file, in a clone and in an installed package alike. */
function entry(): string {
  return join(import.meta.dirname, import.meta.filename.endsWith('.ts') ? 'fairlead.js' : '../../bin/fairlead.js');
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.ref();
  const exited = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  await exited;
}
