/**
 * Symptom: `fairlead rpc - rpc.discover | head -1` printed a stack trace of Node and ended with 1, `vm events --follow | head -1` too; a full
 * disk did the same. Cause: nobody listened for errors of standard output.
 */
import { spawn } from 'node:child_process';
import { closeSync, existsSync, openSync } from 'node:fs';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { startTestHub } from '../support/test-hub.ts';

const ENTRY = fileURLToPath(new URL('../../bin/fairlead.js', import.meta.url));

interface Ended {
  readonly code: number | null;
  readonly stderr: string;
}

/** Runs a command whose standard output goes to `stdout`: a descriptor, or a pipe that is closed at once. */
async function run(hub: { url: string; adminToken: string }, args: readonly string[], stdout: number | 'pipe'): Promise<Ended> {
  const env = { ...process.env, FAIRLEAD_HUB: hub.url, FAIRLEAD_TOKEN: hub.adminToken };
  const child = spawn(process.execPath, [ENTRY, ...args], { env, stdio: ['ignore', stdout, 'pipe'] });
  child.stdout?.destroy();
  const exited = new Promise<number | null>((resolve) => child.once('close', resolve));
  // SAFETY: stdio makes it a pipe.
  const stderr = await text(child.stderr as Readable);
  return { code: await exited, stderr };
}

test('a reader that has seen enough ends the command quietly', async () => {
  await using hub = await startTestHub();
  expect(await run(hub, ['rpc', '-', 'rpc.discover'], 'pipe')).toEqual({ code: 0, stderr: '' });
});

const hasFull = existsSync('/dev/full');
if (!hasFull) console.log('skipped: no /dev/full, a file that cannot be written');

test.skipIf(!hasFull)('output that cannot be written is a failure, in one line', async () => {
  await using hub = await startTestHub();
  const full = openSync('/dev/full', 'w');
  try {
    const { code, stderr } = await run(hub, ['token', 'ls'], full);
    expect(stderr).toMatch(/^fairlead: could not write the output: ENOSPC[^\n]*\n$/);
    expect(code).toBe(1);
  } finally {
    closeSync(full);
  }
});
