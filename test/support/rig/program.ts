/** A program of cases (test/rig/programs, ../vm-cases.ts) run in a rig of its own: every one of them holds, and nothing goes wrong beside. */
import { expect } from 'vitest';
import { parseCases } from '../vm-cases.ts';
import { type RigOptions, startRig } from './rig.ts';

export const PROGRAM_LIMIT_MS = 300_000;

/** @param name of a file in test/rig/programs. @param cases how many it has: one that ends early has told of fewer. */
export async function expectCasesToHold(name: string, cases: number, options: RigOptions = {}): Promise<void> {
  await using rig = await startRig(options);
  const { exitCode, stdout, stderr } = await rig.run(`node test/rig/programs/${name}.ts`, { timeoutMs: PROGRAM_LIMIT_MS });
  const { results, isComplete } = parseCases(stdout);
  const failed = results.filter(({ error }) => error !== undefined);
  expect({ failed, isComplete, cases: results.length, exitCode, stderr }).toEqual({
    failed: [],
    isComplete: true,
    cases,
    exitCode: 0,
    stderr: '',
  });
  for (const { note } of results) if (note !== undefined) console.log(note);
}
