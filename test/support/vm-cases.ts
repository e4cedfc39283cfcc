/**
 * Cases that run as a program inside a VM, where there is no test runner: one JSON line on standard output for each, then the
 * number of them, so that a program that dies half-way is told from one that is done. `parseCases` reads that outside.
 */

export interface CaseResult {
  readonly case: string;
  readonly ms: number;
  /** The error's stack; absent where the case holds. */
  readonly error?: string;
  /** What the case measured or saw, for a person. */
  readonly note?: string;
}

export type Cases = Readonly<Record<string, () => Promise<string | void>>>;

const LIMIT_MS = 300_000;

export interface RunCasesOptions {
  /** What the VMs of the program were doing, for the case that has no end: nothing else is left of them to look at. */
  readonly describe?: () => string;
}

/** Runs them one after another; a case that fails does not stop the others, one that hangs ends the program. */
export async function runCases(cases: Cases, { describe }: RunCasesOptions = {}): Promise<void> {
  let count = 0;
  for (const [name, body] of Object.entries(cases)) {
    const start = performance.now();
    const result = (more: Partial<CaseResult>): void => {
      const line: CaseResult = { case: name, ms: Math.round(performance.now() - start), ...more };
      process.stdout.write(`${JSON.stringify(line)}\n`);
    };
    const limit = setTimeout(() => {
      const open = `open: ${process.getActiveResourcesInfo().join(', ')}`;
      result({ error: [`no end within ${LIMIT_MS} ms`, open, ...(describe === undefined ? [] : [describe()])].join('\n') });
      process.exit(1);
    }, LIMIT_MS);
    try {
      const note = await body();
      result(typeof note === 'string' ? { note } : {});
    } catch (error) {
      result({ error: error instanceof Error ? (error.stack ?? error.message) : String(error) });
    }
    clearTimeout(limit);
    count++;
  }
  process.stdout.write(`${JSON.stringify({ done: count })}\n`);
}

/** The results among a VM's output, and whether the program came to its end. */
export function parseCases(output: string): { readonly results: CaseResult[]; readonly isComplete: boolean } {
  const results: CaseResult[] = [];
  let done = -1;
  for (const line of output.split('\n')) {
    const parsed = parseLine(line.trim());
    if (parsed === undefined) continue;
    // SAFETY: only runCases writes objects with these keys, and the caller compares names and errors itself.
    if ('case' in parsed) results.push(parsed as CaseResult);
    if ('done' in parsed) done = Number(parsed.done);
  }
  return { results, isComplete: done === results.length };
}

function parseLine(line: string): object | undefined {
  if (!line.startsWith('{')) return undefined;
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null ? value : undefined;
  } catch {
    return undefined; // The kernel's or another program's line.
  }
}
