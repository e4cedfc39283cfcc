/**
 * Runs a helper program to its end and gives its standard output.
 *
 * Rejects with PROCESS_FAILED that names the command, its exit code and the tail of its standard error, or with NOT_FOUND when the
 * program is not installed. An abort kills the program and rejects with the signal's reason.
 */
import { execFile } from 'node:child_process';
import { FairleadError } from '../../shared/errors.ts';

export interface CommandOptions {
  readonly cwd?: string;
  /** Added to the environment. Messages are always asked for in English, since some are read. */
  readonly env?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal | undefined;
}

/** Package lists and `ldd`-like listings are a few megabytes at most. */
const MAX_OUTPUT_BYTES = 64 * 1024 * 1024;
const STDERR_TAIL_CHARS = 2000;

export function runCommand(command: string, args: readonly string[], options: CommandOptions = {}): Promise<string> {
  const { cwd, signal } = options;
  const env = { ...process.env, LC_ALL: 'C.UTF-8', ...options.env };
  return new Promise((resolve, reject) => {
    execFile(
      command,
      args,
      { env, maxBuffer: MAX_OUTPUT_BYTES, ...(cwd && { cwd }), ...(signal && { signal }) },
      (error, stdout, stderr) => {
        if (error === null) return resolve(stdout);
        if (signal?.aborted === true) return reject(signal.reason);
        if (error.code === 'ENOENT')
          return reject(
            new FairleadError('NOT_FOUND', `could not run ${command}: the program is not installed`, { cause: error }),
          );
        const why = stderr.trim().slice(-STDERR_TAIL_CHARS) || `exit code ${String(error.code)}`;
        reject(new FairleadError('PROCESS_FAILED', `${command} ${args.join(' ')} failed: ${why}`, { cause: error }));
      },
    );
  });
}
