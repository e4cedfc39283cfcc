/** Runs commands one after another for `check`, `test` and `soak`: a line each with its duration, the whole output of those that fail. */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

export const PROJECT_DIR: string = fileURLToPath(new URL('..', import.meta.url));

export interface Step {
  readonly name: string;
  readonly command: readonly [string, ...string[]];
  /** Show the output as it comes and add nothing to it, for steps that run long and sum themselves up. */
  readonly live?: boolean;
}

export interface StepResult {
  readonly name: string;
  readonly ok: boolean;
  readonly output: string;
}

export async function runStep(step: Step): Promise<StepResult> {
  const started = performance.now();
  const { code, output } = await execute(step);
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  const ok = code === 0;
  if (step.live === true) return { name: step.name, ok, output };
  if (!ok) process.stdout.write(output);
  process.stdout.write(`${ok ? 'ok  ' : 'FAIL'} ${step.name} (${seconds} s)\n`);
  return { name: step.name, ok, output };
}

/** All of them, also after a failure, so that one run tells everything. */
export async function runSteps(steps: readonly Step[]): Promise<readonly StepResult[]> {
  const results: StepResult[] = [];
  for (const step of steps) results.push(await runStep(step));
  return results;
}

function execute(step: Step): Promise<{ code: number | null; output: string }> {
  const [program, ...args] = step.command;
  const { promise, resolve, reject } = Promise.withResolvers<{ code: number | null; output: string }>();
  const child = spawn(program, args, {
    cwd: PROJECT_DIR,
    stdio: ['ignore', step.live === true ? 'inherit' : 'pipe', step.live === true ? 'inherit' : 'pipe'],
  });
  const chunks: Buffer[] = [];
  child.stdout?.on('data', (chunk: Buffer) => chunks.push(chunk));
  child.stderr?.on('data', (chunk: Buffer) => chunks.push(chunk));
  child.on('error', (error) => reject(new Error(`could not run ${program}: ${error.message}`, { cause: error })));
  child.on('close', (code) => resolve({ code, output: Buffer.concat(chunks).toString() }));
  return promise;
}

/** What `npm run check` runs: needs neither root nor QEMU. */
export const CHECK_STEPS: readonly Step[] = [
  { name: 'types', command: ['tsc', '--noEmit', '-p', 'tsconfig.json'] },
  { name: 'format', command: ['biome', 'ci', '.'] },
  { name: 'lint', command: ['oxlint', '--type-aware'] },
  { name: 'dead code', command: ['knip'] },
];
