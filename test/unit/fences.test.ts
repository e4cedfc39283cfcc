/** Who may still give commands of a rollout: the highest epoch that was seen counts, over restarts and full disks too. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { fenceKeeper } from '../../agent/rpc/fence-keeper.ts';
import { Fences } from '../../agent/rpc/fences.ts';
import { toFairleadError } from '../../shared/errors.ts';

async function stateDir(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await mkdtemp(join(tmpdir(), 'fences-'));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

async function codeOf(promise: Promise<void>): Promise<string> {
  try {
    await promise;
    return 'OK';
  } catch (error) {
    return toFairleadError(error).code;
  }
}

describe('the fences of a host', () => {
  it('let the newest driver through and whoever is not older, each rollout for itself', async () => {
    await using dir = await stateDir();
    const admit = fenceKeeper(dir.path);
    const codes: string[] = [];
    for (const [scope, epoch] of [
      ['r1', 2],
      ['r1', 2],
      ['r1', 1],
      ['r2', 1],
      ['r1', 3],
      ['r1', 2],
    ] as const) {
      codes.push(await codeOf(admit({ scope, epoch })));
    }
    expect(codes).toEqual(['OK', 'OK', 'FENCED', 'OK', 'OK', 'FENCED']);
  });

  it('are remembered over a restart of the agent', async () => {
    await using dir = await stateDir();
    const path = join(dir.path, 'fences.json');
    const first = new Fences(path);
    await Promise.all([first.admit({ scope: 'r1', epoch: 5 }), first.admit({ scope: 'r4', epoch: 4 })]);
    const second = new Fences(path);
    expect(await codeOf(second.admit({ scope: 'r1', epoch: 4 }))).toBe('FENCED');
    expect(await codeOf(second.admit({ scope: 'r4', epoch: 3 }))).toBe('FENCED');
  });

  it('forget the rollout that was raised longest ago when there are too many', async () => {
    await using dir = await stateDir();
    const path = join(dir.path, 'fences.json');
    const fences = new Fences(path);
    await Promise.all(Array.from({ length: 300 }, (_, index) => fences.admit({ scope: `r${index}`, epoch: 2 })));
    // SAFETY: written by the fences themselves.
    const kept = (JSON.parse(await readFile(path, 'utf8')) as { fences: unknown[] }).fences;
    expect(kept).toHaveLength(256);
    expect(await codeOf(fences.admit({ scope: 'r299', epoch: 1 }))).toBe('FENCED');
  });

  it('refuse commands of rollouts when they cannot be read or written', async () => {
    await using dir = await stateDir();
    const path = join(dir.path, 'fences.json');
    await writeFile(path, '{"version":1,"fences":');
    expect(await codeOf(new Fences(path).admit({ scope: 'r1', epoch: 1 }))).toBe('JOURNAL_FAILED');
    expect(await codeOf(new Fences(join(dir.path, 'no', 'fences.json')).admit({ scope: 'r1', epoch: 1 }))).toBe('JOURNAL_FAILED');
  });
});
