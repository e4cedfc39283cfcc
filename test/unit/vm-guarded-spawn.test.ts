/** How processes of VMs are started: what they get, where they are before they run, and what is left when the agent dies meanwhile. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, test } from 'vitest';
import { identityOf } from '../../agent/process-identity.ts';
import { type GuardedSpawn, NO_GUARD, spawnGuarded } from '../../agent/vm/confinement/guarded-spawn.ts';

const PROGRAM = fileURLToPath(new URL('../support/programs/guarded-spawn.ts', import.meta.url));
/** Above those that Node itself closes for its children. */
const STRANGER = 40;

/** Runs to the end, with its output on a pipe of this test. */
async function outputOf(request: Partial<GuardedSpawn>): Promise<string> {
  const sink = spawn('/bin/cat', { stdio: ['pipe', 'pipe', 'inherit'] });
  await once(sink, 'spawn');
  // SAFETY: the handle of a pipe has its descriptor; the public API hides it.
  const { fd } = (sink.stdin as unknown as { _handle: { fd: number } })._handle;
  const child = spawnGuarded({
    binary: '',
    argv: [],
    env: {},
    input: 'none',
    descriptors: [fd, fd],
    guard: NO_GUARD,
    ...request,
  });
  await once(child, 'exit');
  sink.stdin.end();
  return text(sink.stdout);
}

describe('a process of a VM', () => {
  it('is in its group before it runs, with the same pid and start time after', async () => {
    const before: { pid: number; startTime: string | undefined; command: string }[] = [];
    const admit = (pid: number) => {
      const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
      before.push({ pid, startTime: identityOf(pid)?.startTime, command });
    };
    const guard = { ...NO_GUARD, cgroup: { admit } };
    const child = spawnGuarded({ binary: '/bin/cat', argv: ['-'], env: {}, input: 'pipe', descriptors: [], guard });
    const exited = once(child, 'exit');
    const pid = child.pid ?? 0;
    expect(before).toEqual([{ pid, startTime: identityOf(pid)?.startTime, command: expect.stringMatching(/^\/bin\/sh\0/) }]);
    await expect.poll(() => readFileSync(`/proc/${pid}/cmdline`, 'utf8')).toBe('/bin/cat\0-\0');
    expect(identityOf(pid)?.startTime).toBe(before[0]?.startTime);
    child.stdin?.end();
    expect(await exited).toEqual([0, null]);
  });

  it('gets its arguments as they are, whatever a shell would make of them', async () => {
    const argv = ['a b', '$(id)', "'", '"', '`id`', '*', '\\n', 'ä\n', '', '-e'];
    for (const cgroup of [undefined, { admit: () => {} }]) {
      const output = await outputOf({ binary: '/usr/bin/printf', argv: ['[%s]', ...argv], guard: { ...NO_GUARD, cgroup } });
      expect(output).toBe(argv.map((word) => `[${word}]`).join(''));
    }
  });

  it('has a session of its own, an empty input, and makes files for its owner alone', async () => {
    const script = 'umask; cut -d" " -f1,6 /proc/$$/stat; read -r word || echo end';
    const [umask, ids = '', end] = (await outputOf({ binary: '/bin/sh', argv: ['-c', script] })).split('\n');
    expect([umask, end]).toEqual(['0077', 'end']);
    expect(new Set(ids.split(' ')).size).toBe(1);
  });

  it('is not run where it cannot be put into its group', async () => {
    const admit = (): never => {
      throw new Error('no room');
    };
    const descriptors = [1, 2];
    const request = {
      binary: '/bin/false',
      argv: [],
      env: {},
      input: 'none',
      descriptors,
      guard: { ...NO_GUARD, cgroup: { admit } },
    };
    expect(() => spawnGuarded({ ...request, input: 'none' })).toThrow('no room');
  });

  it('tells as its own end that there is no such program', async () => {
    const admit = () => {};
    const child = spawnGuarded({
      binary: '/no/such/program',
      argv: [],
      env: {},
      input: 'none',
      descriptors: [],
      guard: { ...NO_GUARD, cgroup: { admit } },
    });
    expect(await once(child, 'exit')).toEqual([127, null]);
  });
});

/** The program of test/support/programs, with a descriptor more than it knows of. */
async function agent(...argv: string[]): Promise<string> {
  await using stranger = await open('/etc/hostname');
  const stdio = Array.from({ length: STRANGER + 1 }, (_, number) =>
    number === STRANGER ? stranger.fd : number === 1 ? ('pipe' as const) : ('ignore' as const),
  );
  const child = spawn(process.execPath, [PROGRAM, ...argv], { stdio });
  const output = child.stdout === null ? '' : await text(child.stdout);
  return output;
}

describe('of an agent', () => {
  it('that was started with a descriptor left open, no VM gets it', async () => {
    expect(await agent('live', '/bin/ls', '-l', '/proc/self/fd')).toMatch(new RegExp(` ${STRANGER} -> /dev/null$`, 'm'));
    expect(await agent('live', '/bin/ls', '-l', '/proc/self/fd')).not.toContain('/etc/hostname');
  });

  it('that dies before the process is in its group, nothing is run', async () => {
    const output = await agent('die', '/bin/echo', 'ran');
    expect(output).toMatch(/^\d+\n$/);
  });
});

test('the out-of-memory score is set, and one that ends at once is no failure of that', async () => {
  const scoreOf = (pid: number | undefined) => readFileSync(`/proc/${pid}/oom_score_adj`, 'utf8').trim();
  const guard = { ...NO_GUARD, oomScoreAdj: 321 };
  const cat = spawnGuarded({ binary: '/bin/cat', argv: [], env: {}, input: 'pipe', descriptors: [], guard });
  const ended = once(cat, 'exit');
  expect(scoreOf(cat.pid)).toBe('321');
  cat.stdin?.end();
  await ended;
  for (let n = 0; n < 20; n++) {
    const brief = spawnGuarded({ binary: '/bin/true', argv: [], env: {}, input: 'none', descriptors: [], guard });
    await once(brief, 'exit');
  }
});
