/** Runs vitest over some of its projects and counts: its own summary on the screen, the numbers for the closing line. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runStep } from './steps.ts';

export interface TestCounts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

/** The part that is used of vitest's JSON report. */
interface JsonReport {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly numTodoTests: number;
  readonly numFailedTestSuites: number;
  readonly success: boolean;
}

/** A file that fails to load counts as one failure, so that a run which lost tests never looks whole. */
export async function runVitest(projects: readonly string[], extra: readonly string[] = []): Promise<TestCounts> {
  const directory = await mkdtemp(join(tmpdir(), 'fairlead-test-report-'));
  const file = join(directory, 'report.json');
  try {
    const projectFlags = projects.flatMap((name) => ['--project', name]);
    const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${file}`];
    const step = await runStep({
      name: `tests: ${projects.join(', ')}`,
      command: ['vitest', 'run', ...projectFlags, ...reporters, ...extra],
      live: true,
    });
    return await readCounts(file, step.ok);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function readCounts(file: string, ok: boolean): Promise<TestCounts> {
  let report: JsonReport;
  try {
    // SAFETY: vitest wrote this file a moment ago; a changed format shows as NaN counts, which the closing line turns into a failure.
    report = JSON.parse(await readFile(file, 'utf8')) as JsonReport;
  } catch {
    return { passed: 0, failed: 1, skipped: 0 };
  }
  const failed = Math.max(report.numFailedTests, ok ? 0 : 1);
  return { passed: report.numPassedTests, failed, skipped: report.numPendingTests + report.numTodoTests };
}

export function addCounts(a: TestCounts, b: TestCounts): TestCounts {
  return { passed: a.passed + b.passed, failed: a.failed + b.failed, skipped: a.skipped + b.skipped };
}
