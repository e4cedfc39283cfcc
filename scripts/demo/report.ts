/** What the demo shows: a line a step for people, or one summary for programs at the end and nothing else on standard output. */
export interface Summary {
  readonly ok: boolean;
  readonly steps: readonly { readonly name: string; readonly ms: number }[];
  readonly guestOutput: string;
  readonly error?: string;
}

export class StepReport {
  readonly #json: boolean;
  readonly #steps: { name: string; ms: number }[] = [];
  #guestOutput = '';

  constructor(options: { json: boolean }) {
    this.#json = options.json;
  }

  async step<T>(name: string, run: () => Promise<T>): Promise<T> {
    const started = performance.now();
    const result = await run();
    const ms = Math.round(performance.now() - started);
    this.#steps.push({ name, ms });
    this.#line(`${`${ms} ms`.padStart(9)}  ${name}`);
    return result;
  }

  /** A fact about the step before. */
  note(text: string): void {
    this.#line(`${' '.repeat(11)}${text}`);
  }

  guestOutput(text: string): void {
    this.#guestOutput = text;
    for (const line of text.trimEnd().split('\n')) this.note(`guest> ${line}`);
  }

  finish(next: readonly string[] | undefined): void {
    this.#summarise({ ok: true });
    if (next === undefined) this.#line('Done; nothing is left behind.');
    else if (this.#json) process.stderr.write(`${next.join('\n')}\n`);
    else this.#line(`\n${next.join('\n')}`);
  }

  fail(error: string, log: string | undefined): void {
    process.stderr.write(`${error}\n`);
    if (log !== undefined && log !== '') process.stderr.write(`last lines of hub and agent:\n${log}\n`);
    this.#summarise({ ok: false, error });
  }

  #summarise(end: { ok: true } | { ok: false; error: string }): void {
    const summary: Summary = { ...end, steps: this.#steps, guestOutput: this.#guestOutput };
    if (this.#json) process.stdout.write(`${JSON.stringify(summary)}\n`);
  }

  #line(text: string): void {
    if (!this.#json) process.stdout.write(`${text}\n`);
  }
}
