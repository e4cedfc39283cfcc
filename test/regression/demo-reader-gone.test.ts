/**
 * Symptom: `npm run demo | head -1` left a hub, an agent and a VM running; Ctrl-C while the guest booted was heard two minutes later; an
 * unknown flag printed a stack trace. Cause: nobody listened for errors of standard output; following events ends well when it is
 * interrupted, and whoever waited for an event was not told; nobody caught what the parser of flags throws.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { whyNoGuest } from '../support/up.ts';

const DEMO = fileURLToPath(new URL('../../scripts/demo.ts', import.meta.url));
const reason = whyNoGuest();
if (reason !== undefined) console.log(`skipped: ${reason}`);

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'fl-demo-'));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

test.skipIf(reason !== undefined)('a demo whose reader has gone takes down what it started', async () => {
  const child = spawn(process.execPath, [DEMO], {
    stdio: ['ignore', 'pipe', 'ignore'],
    env: { ...process.env, TMPDIR: directory },
  });
  const exited = once(child, 'exit');
  child.stdout.once('data', () => child.stdout.destroy());
  expect(await exited).toEqual([130, null]);
  // The demo removes its directory last, when hub, agent and VM have ended.
  expect(await readdir(directory)).toEqual([]);
});

test('an unknown flag is answered with the usage', async () => {
  const child = spawn(process.execPath, [DEMO, '--bogus'], { stdio: ['ignore', 'ignore', 'pipe'] });
  const exited = once(child, 'exit');
  expect(await text(child.stderr)).toMatch(/^demo: [^\n]*--bogus[^\n]*\nusage: [^\n]*\n$/);
  expect(await exited).toEqual([2, null]);
});
