/**
 * A program of cases (test/rig/programs, ../vm-cases.ts) run in a rig, as one value to compare:
 *
 *     expect(await outcomeOf(rig, programOf('vm-suspend'))).toEqual(held(4));
 */
import { type CaseResult, parseCases } from '../vm-cases.ts';
import { RIG_START_MS, type Rig } from './rig.ts';

/** Far beyond what a calm machine takes (a minute): everything is emulated, and others may be at work. */
const PROGRAM_LIMIT_MS = 900_000;
/** For a test that runs one, with the boot of a rig before; longer than both, so that the rig is the one to say what took so long. */
export const PROGRAM_TEST_MS = PROGRAM_LIMIT_MS + RIG_START_MS + 60_000;

export interface ProgramOutcome {
  readonly failed: readonly CaseResult[];
  readonly isComplete: boolean;
  readonly cases: number;
  readonly exitCode: number;
  readonly stderr: string;
}

/** Every case holds, and nothing goes wrong beside. @param cases how many there are: a program that ends early has told of fewer. */
export function held(cases: number): ProgramOutcome {
  return { failed: [], isComplete: true, cases, exitCode: 0, stderr: '' };
}

export function programOf(name: string): string {
  return `node test/rig/programs/${name}.ts`;
}

/** What the cases noted is printed. */
export async function outcomeOf(rig: Rig, command: string): Promise<ProgramOutcome> {
  const { exitCode, stdout, stderr } = await rig.run(command, { timeoutMs: PROGRAM_LIMIT_MS });
  const { results, isComplete } = parseCases(stdout);
  for (const { note } of results) if (note !== undefined) console.log(note);
  return { failed: results.filter(({ error }) => error !== undefined), isComplete, cases: results.length, exitCode, stderr };
}
