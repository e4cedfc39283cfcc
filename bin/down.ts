/** `fairlead down`: ends the `fairlead up` of a data directory, and no other process, whatever its pid is by now. */
import { type ProcessIdentity, processExit, signalProcess } from '../agent/process-identity.ts';
import { describeFailure, exitCodeOf } from '../cli/failure.ts';
import { FairleadError } from '../shared/errors.ts';
import { DOWN_USAGE, readDownOptions } from './up-options.ts';
import { readUpState, removeUpState } from './up-state.ts';

const STOP_TIMEOUT_MS = 30_000;

export async function runDown(argv: readonly string[]): Promise<number> {
  let options: ReturnType<typeof readDownOptions>;
  try {
    options = readDownOptions(argv);
  } catch (error) {
    process.stderr.write(`fairlead down: ${error instanceof Error ? error.message : String(error)}\n${DOWN_USAGE}`);
    return 2;
  }
  if (options === 'help') {
    process.stdout.write(DOWN_USAGE);
    return 0;
  }
  try {
    const up = await readUpState(options.dataDir);
    if (signalProcess(up, 'SIGTERM')) await exitWithin(up, STOP_TIMEOUT_MS);
    await removeUpState(options.dataDir);
    process.stderr.write('hub and agent have ended\n');
    return 0;
  } catch (error) {
    process.stderr.write(`${describeFailure(error)}\n`);
    return exitCodeOf(error);
  }
}

/** Waiting for another process does not hold the event loop, and a signal's timeout does not either: the timer here does both. */
async function exitWithin(up: ProcessIdentity, timeoutMs: number): Promise<void> {
  const late = new AbortController();
  const timer = setTimeout(() => {
    late.abort(
      new FairleadError('TIMEOUT', `process ${up.pid} has not ended within ${timeoutMs} ms: look at its log, or end it yourself`),
    );
  }, timeoutMs);
  try {
    await processExit(up, late.signal);
  } finally {
    clearTimeout(timer);
  }
}
