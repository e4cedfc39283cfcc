/**
 * Symptom: `fairlead exec` and `fairlead cp -` whose standard input stayed open without a byte did not end upon an interrupt, the copy never, and
 * the program not before the second one.
 * Cause: nothing told the reading of the input of the interrupt; and a read that is under way keeps the process.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { expect, test } from 'vitest';
import { registerExec } from '../../cli/commands/exec.ts';
import { MAX_EXEC_BYTES } from '../../shared/protocol/methods-guest.ts';

const ENTRY = fileURLToPath(new URL('../../bin/fairlead.js', import.meta.url));

test('exec that waits for its input ends when it is interrupted', async () => {
  const interruption = new AbortController();
  const streams = { stdin: new PassThrough(), stdout: new PassThrough(), stderr: new PassThrough() };
  const program = new Command().exitOverride();
  registerExec(program, { env: {}, streams, signal: interruption.signal, exitCode: 0 });
  const ended = program.parseAsync(['exec', 'web', '--', 'true'], { from: 'user' });
  await expect.poll(() => streams.stdin.listenerCount('readable')).toBeGreaterThan(0);
  interruption.abort();
  await expect(ended).rejects.toMatchObject({ code: 'CANCELLED' });
});

test('a command that fails ends, though its input goes on', async () => {
  const child = spawn(process.execPath, [ENTRY, 'exec', 'web', '--', 'true'], { stdio: ['pipe', 'ignore', 'pipe'] });
  child.stdin.on('error', () => {});
  child.stdin.write(Buffer.alloc(MAX_EXEC_BYTES + 1));
  const said = text(child.stderr);
  expect(await once(child, 'exit')).toEqual([2, null]);
  expect(await said).toContain('the input is longer');
});
