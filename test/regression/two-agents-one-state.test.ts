/**
 * Symptom: two agents that were started with one state directory, such as by hand beside the service, wrote into one journal between each
 * other's records and took turns in connecting to each other's VMs.
 * Cause: nothing said whose a state directory is.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { identityOf } from '../../agent/process-identity.ts';
import { becomeSoleAgent } from '../../agent/sole-agent.ts';
import { readBootId } from '../../agent/vm/host/host-info.ts';

let stateDir: string;
beforeEach(async () => {
  stateDir = await mkdtemp(join(tmpdir(), 'fl-'));
});
afterEach(() => rm(stateDir, { recursive: true, force: true }));

const leave = (text: string) => writeFile(join(stateDir, 'agent.json'), text);

test('of agents that start with one state directory at once, one does', async () => {
  const attempts = await Promise.allSettled(Array.from({ length: 8 }, () => becomeSoleAgent(stateDir)));
  const started = attempts.flatMap((attempt) => (attempt.status === 'fulfilled' ? [attempt.value] : []));
  expect(started).toHaveLength(1);
  const refusals = attempts.flatMap((attempt) => (attempt.status === 'rejected' ? [attempt.reason] : []));
  expect(refusals).toMatchObject(refusals.map(() => ({ code: 'CONFLICT' })));
  expect(await readdir(stateDir)).toEqual(['agent.json']);
  for (const one of started) await one[Symbol.asyncDispose]();
  await using _ = await becomeSoleAgent(stateDir);
});

test('an agent that lives keeps it, one that was killed does not', async () => {
  const other = spawn('sleep', ['600'], { stdio: 'ignore' });
  const ended = once(other, 'exit');
  try {
    await leave(JSON.stringify({ ...identityOf(other.pid ?? 0), bootId: readBootId() }));
    await expect(becomeSoleAgent(stateDir, 50)).rejects.toThrow(`an agent (pid ${other.pid}) runs with the state directory`);
    const waiting = becomeSoleAgent(stateDir, 30_000);
    other.kill('SIGKILL');
    await using _ = await waiting;
    expect(await readdir(stateDir)).toEqual(['agent.json']);
  } finally {
    other.kill('SIGKILL');
    await ended;
  }
});

test.each([
  ['nothing, by a host that stopped', ''],
  ['another boot', JSON.stringify({ ...identityOf(process.pid), bootId: 'before' })],
  ['a pid that is another program now', JSON.stringify({ pid: process.pid, startTime: '1', bootId: readBootId() })],
])('what an agent has left that says %s is no agent', async (_what, text) => {
  await leave(text);
  await using _ = await becomeSoleAgent(stateDir);
  expect(await readdir(stateDir)).toEqual(['agent.json']);
});
