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
 */
export function run(command, args, { env = {}, cwd = PROJECT_DIR, show = false } = {}) {
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd,
      env: { ...process.env, ...env },
      stdio: ['ignore', show ? process.stderr : 'pipe', show ? process.stderr : 'pipe'],
    });
    const chunks = [];
    child.stdout?.on('data', (chunk) => chunks.push(chunk));
    child.stderr?.on('data', (chunk) => chunks.push(chunk));
    child.on('error', (error) => resolve({ ok: false, output: error.message }));
    child.on('close', (code) => resolve({ ok: code === 0, output: Buffer.concat(chunks).toString() }));
  });
}

/** The last lines of a program's output, as they go into a message. */
export function tail(output, lines = 15) {
  return output.trim().split('\n').slice(-lines).join('\n');
}
