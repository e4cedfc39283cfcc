/**
 * Symptom: a second `fairlead up --background` on the same directory printed 4 KB of the first one's log, cut in the middle of a line, and
 * ended with 1. Cause: only the hub's lock on its store refused it, in the child, after the log had been shared.
 */
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { writeUpState } from '../../bin/up-state.ts';

const ENTRY = fileURLToPath(new URL('../../bin/fairlead.js', import.meta.url));

async function up(args: readonly string[]): Promise<{ code: number | null; stderr: string }> {
  const child = spawn(process.execPath, [ENTRY, 'up', ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
  const exited = new Promise<number | null>((resolve) => child.once('close', resolve));
  const stderr = await text(child.stderr);
  return { code: await exited, stderr };
}

test.each([[[]], [['--background']]])('a second up on a directory is refused in one line: %j', async (args) => {
  const directory = await mkdtemp(join(tmpdir(), 'fairlead-up-'));
  try {
    // This very process stands for the first one: it is alive.
    await writeUpState(directory, { hubUrl: '', agentUrl: 'off', host: 'local', contextFile: '', pid: process.pid });
    const { code, stderr } = await up([...args, '--data-dir', directory, '--listen', '127.0.0.1:0', '--agent-http', 'off']);
    expect(stderr).toMatch(new RegExp(`^fairlead: [^\\n]* already, as process ${process.pid}: [^\\n]*\\n$`));
    expect(code).toBe(4);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});

test('a log level that does not exist is wrong use, not a fault of the program', async () => {
  const { code, stderr } = await up(['--log-level', 'loud']);
  expect(stderr).toContain('--log-level loud is none of');
  expect(code).toBe(2);
});
