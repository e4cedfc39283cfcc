/** `fairlead up` as a process of its own, detached, so that `--keep` can leave it running when the demo's own process ends. */
import { type ChildProcess, spawn } from 'node:child_process';
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import type { UpReady } from '../../bin/up.ts';
import type { HubContext } from '../../cli/context.ts';

const ENTRY = fileURLToPath(new URL('../../bin/fairlead.js', import.meta.url));
const LOG_TAIL_BYTES = 4096;

export interface RunningUp extends UpReady {
  readonly context: HubContext;
  /** The last lines that hub and agent logged, for a failure's report. */
  logTail(): Promise<string>;
  /** Ends hub and agent and waits until they are gone. VMs would stay: delete them first. */
  stop(): Promise<void>;
}

/** Resolves when the agent is connected to the hub. @throws Error with the end of the log when `up` ends before that. */
export async function startUp(directory: string): Promise<RunningUp> {
  const logPath = join(directory, 'up.log');
  await using log = await open(logPath, 'a');
  const contextFile = join(directory, 'context.json');
  const args = [
    'up',
    '--data-dir',
    directory,
    '--listen',
    '127.0.0.1:0',
    '--agent-http',
    '127.0.0.1:0',
    '--host-name',
    'demo-host',
    '--ready-fd',
    '3',
  ];
  const child = spawn(process.execPath, [ENTRY, ...args], {
    detached: true,
    stdio: ['ignore', log.fd, log.fd, 'pipe'],
    env: { ...process.env, FAIRLEAD_CONTEXT: contextFile },
  });
  const logTail = async (): Promise<string> => (await readFile(logPath, 'utf8')).slice(-LOG_TAIL_BYTES);

  // SAFETY: stdio says that the fourth is a pipe that the child writes to.
  const said = await text(child.stdio[3] as Readable);
  if (said === '') throw new Error(`hub and agent did not start:\n${await logTail()}`);
  child.unref();
  // SAFETY: bin/up.ts wrote it, of this very type; the context file is its own too.
  const ready = JSON.parse(said) as UpReady;
  const context = JSON.parse(await readFile(contextFile, 'utf8')) as HubContext;
  return { ...ready, context, logTail, stop: () => stop(child) };
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.ref();
  const exited = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  await exited;
}
