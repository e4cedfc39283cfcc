/**
 * Symptom: when `fairlead sim` was killed, its processes ended with EPIPE or ERR_IPC_CHANNEL_CLOSED and a trace on the terminal.
 * Cause: they told how their hosts are to a parent that was gone, and nobody took the error of it.
 */
import { spawn } from 'node:child_process';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const ENTRY = fileURLToPath(new URL('../../bin/fairlead.ts', import.meta.url));

test('a process of a simulated fleet whose parent was killed ends by itself without a word', { timeout: 120_000 }, async () => {
  const directory = await mkdtemp(join(tmpdir(), 'fairlead-sim-'));
  try {
    const args = ['sim', '--hosts', '2000', '--processes', '1', '--hub', 'ws://127.0.0.1:1', '--token', 'none'];
    const sim = spawn(process.execPath, [ENTRY, ...args, '--state-dir', directory], { stdio: ['ignore', 'ignore', 'pipe'] });
    // Its process has it, too: it ends when both have.
    const complaints = text(sim.stderr);
    try {
      // While hosts begin: there is still something to tell when the parent is gone.
      await expect.poll(async () => (await readdir(directory)).length, { timeout: 60_000, interval: 20 }).toBeGreaterThan(50);
    } finally {
      sim.kill('SIGKILL');
    }
    expect(await complaints).toBe('');
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});
