/**
 * What becomes of a command whose output cannot be written. A reader that has gone (`| head -1`) had what it wanted: the command ends
 * quietly and with 0. Anything else, such as a full disk, is a failure that must not look like success.
 */
import { ERROR_TABLE } from '../shared/protocol/error-table.ts';

export class OutputWatch {
  #exitCode: number | undefined;
  readonly #onBroken: () => void;

  /** Watches the process's output to its end, beyond the command's own: what is still on its way may fail after it. */
  constructor(onBroken: () => void) {
    this.#onBroken = onBroken;
    for (const stream of [process.stdout, process.stderr]) stream.on('error', (error) => this.#broke(error));
  }

  /** What to end with, once output has failed; it goes before what the command itself says. */
  get exitCode(): number | undefined {
    return this.#exitCode;
  }

  #broke(error: NodeJS.ErrnoException): void {
    if (this.#exitCode !== undefined) return;
    const isReaderGone = error.code === 'EPIPE';
    this.#exitCode = isReaderGone ? 0 : ERROR_TABLE.INTERNAL.exit;
    if (!isReaderGone) {
      process.stderr.write(`fairlead: could not write the output: ${error.message}\n`);
      // The command may have returned its own code already.
      process.exitCode = this.#exitCode;
    }
    this.#onBroken();
  }
}
