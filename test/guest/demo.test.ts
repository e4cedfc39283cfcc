/** `npm run demo` as a user runs it, on both machine types, and that it leaves nothing behind. */
import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Summary } from '../../scripts/demo/report.ts';
import { whyNoGuest } from '../support/up.ts';

const run = promisify(execFile);
const DEMO = fileURLToPath(new URL('../../scripts/demo.ts', import.meta.url));

const reason = whyNoGuest();
if (reason !== undefined) console.log(`skipped: ${reason}`);

describe.skipIf(reason !== undefined)('npm run demo', () => {
  let directory: string;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'fl-demo-'));
  });
  afterEach(() => rm(directory, { recursive: true, force: true }));

  it.each(['q35', 'microvm'])('does the main job on %s and leaves nothing behind', async (machine) => {
    const env = { ...process.env, TMPDIR: directory };
    const { stdout, stderr } = await run(process.execPath, [DEMO, '--json', '--machine', machine], { env });
    expect(stderr).toBe('');
    const summary = JSON.parse(stdout) as Summary;
    expect(summary).toMatchObject({ ok: true, guestOutput: expect.stringMatching(/^Linux .*\nup for [\d.]+ s\n$/) });
    expect(summary.steps.map((step) => step.name)).toEqual([
      'hub up, agent enrolled and connected',
      `VM started (${machine})`,
      'guest said that it is ready',
      'command run in the guest over vsock',
      'paused',
      'resumed',
      'reset',
      'guest is ready again',
      '/readyz of hub and agent',
      '/metrics of hub and agent',
      'VM stopped',
      'VM deleted',
      'clean up',
    ]);
    for (const step of summary.steps) expect(step.ms, step.name).toBeGreaterThanOrEqual(0);
    expect(await leftovers(directory)).toEqual([]);
  });

  it('refuses an unknown machine with its usage and exit code 2', async () => {
    await expect(run(process.execPath, [DEMO, '--machine', 'pdp11'])).rejects.toMatchObject({
      code: 2,
      stderr: expect.stringContaining('usage:'),
    });
  });
});

/** What is in the demo's own place for temporary files, and the processes that were started with it in their command line. */
async function leftovers(directory: string): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const commands = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')));
  return [...(await readdir(directory)), ...commands.filter((command) => command.includes(directory))];
}
