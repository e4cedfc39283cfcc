/** What the set-up steps share: where the project is, running a program, saying what is done. */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const PROJECT_DIR = fileURLToPath(new URL('../..', import.meta.url));

/** Exact version of the Node that the project runs on where the machine's own is older. */
export const PINNED_NODE_VERSION = '24.21.0';
export const PINNED_NODE_PACKAGE = `node-linux-${process.arch}`;
export const PINNED_NODE_DIR = join(PROJECT_DIR, 'node_modules', PINNED_NODE_PACKAGE);

/** Oldest Node that the project runs on, as in package.json. */
const OLDEST_NODE = [24, 15];

/** Something that the person has to do; the message is the whole of what is shown. */
export class SetupError extends Error {}

export function say(line) {
  process.stderr.write(`setup: ${line}\n`);
}

export function isNodeCurrent() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  return major > OLDEST_NODE[0] || (major === OLDEST_NODE[0] && minor >= OLDEST_NODE[1]);
}

/** The Node that the project runs on: the pinned one where it is installed, else the one that runs this. */
export function projectNode() {
  const pinned = join(PINNED_NODE_DIR, 'bin', 'node');
  return !isNodeCurrent() && existsSync(pinned) ? pinned : process.execPath;
}

/** PATH without node_modules/.bin: for npm, which must not run on the Node that it is about to replace. */
export function systemPath() {
  const bin = join(PROJECT_DIR, 'node_modules', '.bin');
  return (process.env.PATH ?? '')
    .split(delimiter)
    .filter((folder) => folder !== bin)
    .join(delimiter);
}

export function hasProgram(name) {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin'];
  return folders.some((folder) => existsSync(join(folder, name)));
}

/**
 * Runs a program to its end, with its output kept for the error message, or passed on where `show` is set.
 * Gives `{ok, output}`; a program that cannot be started is not ok.
 *
 * A signal that ends the set-up ends the program first, and the set-up with it: what still writes is never without the lock.
 */
export function run(command, args, { env = {}, cwd = PROJECT_DIR, show = false } = {}) {
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd,
      env: { ...process.env, ...env },
      stdio: ['ignore', show ? process.stderr : 'pipe', show ? process.stderr : 'pipe'],
    });
    const release = endOnSignal(child);
    const chunks = [];
    child.stdout?.on('data', (chunk) => chunks.push(chunk));
    child.stderr?.on('data', (chunk) => chunks.push(chunk));
    child.on('error', (error) => chunks.push(error.message));
    child.on('close', (code, signal) => {
      if (signal !== null) chunks.push(`${command} was ended by ${signal}`);
      release();
      resolve({ ok: code === 0, output: chunks.join('') });
    });
  });
}

/** Gives the function that takes the handlers away, and that ends this process too if a signal came. */
function endOnSignal(child) {
  let received;
  const handlers = ['SIGINT', 'SIGTERM', 'SIGHUP'].map((signal) => {
    const handler = () => {
      received = signal;
      // A terminal sends its SIGINT to the program itself, and a second one would make some programs drop their work at once.
      if (signal !== 'SIGINT') child.kill(signal);
    };
    process.on(signal, handler);
    return () => process.off(signal, handler);
  });
  return () => {
    for (const remove of handlers) remove();
    if (received !== undefined) process.kill(process.pid, received);
  };
}

/** The last lines of a program's output, as they go into a message. */
export function tail(output, lines = 15) {
  return output.trim().split('\n').slice(-lines).join('\n');
}
