/** Runs vitest over some of its projects. What it prints is left as it is, and its own summary comes last. */
import { runStep } from './steps.ts';

/** Whether all passed and there was one at all: a file that fails to load is a failure, and so is a run that finds no test. */
export async function runVitest(projects: readonly string[]): Promise<boolean> {
  const { ok } = await runStep({
    name: `tests: ${projects.join(', ')}`,
    command: ['vitest', 'run', ...projects.flatMap((name) => ['--project', name])],
    live: true,
  });
  return ok;
}
