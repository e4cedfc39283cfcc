/**
 * One rig for several tests, since to boot one takes longer than most of them: started for the first, and once more after a test that may
 * have left something behind, so that what fails does not make others fail.
 *
 *     none ──first use──▶ booted ──program with a failed case, command that does not end──▶ none
 */
import { outcomeOf, type ProgramOutcome } from './program.ts';
import { type Rig, type RigOptions, startRig } from './rig.ts';

export class SharedRig implements AsyncDisposable {
  readonly #options: RigOptions;
  #rig: Rig | undefined;

  constructor(options: RigOptions) {
    this.#options = options;
  }

  /** An action that rejects is the last in this rig. */
  async use<T>(action: (rig: Rig) => Promise<T>): Promise<T> {
    this.#rig ??= await startRig(this.#options);
    try {
      return await action(this.#rig);
    } catch (error) {
      await this[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** A program of cases; one that does not end well is the last in this rig. */
  async outcome(command: string): Promise<ProgramOutcome> {
    const outcome = await this.use((rig) => outcomeOf(rig, command));
    if (outcome.failed.length > 0 || !outcome.isComplete || outcome.exitCode !== 0) await this[Symbol.asyncDispose]();
    return outcome;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const rig = this.#rig;
    this.#rig = undefined;
    await rig?.[Symbol.asyncDispose]();
  }
}
