/** A line of a contender, in four processes: operator, hub, agent, and the sink behind them; and what can be asked of it. */
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Message, Program } from '../programs.ts';
import type { Order } from './order.ts';

/** Longer than any order takes: a line that has stopped for good ends the contender's part. */
const DEADLINE_MS = 60_000;
/** Of `utime` and `stime` in /proc/PID/stat: USER_HZ, which is 100 on all that Node runs on. */
const TICKS_PER_SECOND = 100;

export interface Parts {
  readonly operator: Program;
  readonly hub: Program;
  readonly agent: Program;
  readonly sink: Program;
}

export class ContenderLine {
  readonly #parts: Parts;
  /** Rejects when hub or agent fails. */
  readonly #failure: Promise<never>;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#failure = Promise.race([firstFailure(parts.hub, 'hub'), firstFailure(parts.agent, 'agent')]);
    this.#failure.catch(() => {});
  }

  order(order: Order): void {
    this.#parts.operator.send(order);
  }

  /** What the operator tells next. @throws Error when it says that it failed, or when the time is over */
  async hear<Told>(what: string): Promise<Told> {
    return this.#hear<Told>('operator', what);
  }

  async askSink<Told>(question: object, what: string): Promise<Told> {
    this.#parts.sink.send(question);
    return this.#hear<Told>('sink', what);
  }

  /** Seconds of processor time that operator, hub and agent have used. */
  async cpuSeconds(): Promise<number> {
    const ticks = await Promise.all(
      this.#carriers.map(async ({ pid }) => {
        // The name, which may hold anything, ends with the last parenthesis; utime and stime are fields 14 and 15 (proc(5)).
        const fields = (await readFile(`/proc/${pid}/stat`, 'utf8')).replace(/^.*\) /s, '').split(' ');
        return Number(fields[11]) + Number(fields[12]);
      }),
    );
    return ticks.reduce((sum, own) => sum + own, 0) / TICKS_PER_SECOND;
  }

  /** Resident memory of operator, hub and agent, in MB (10^6 bytes). */
  async residentMB(): Promise<readonly number[]> {
    return Promise.all(
      this.#carriers.map(async ({ pid }) => {
        const status = await readFile(`/proc/${pid}/status`, 'utf8');
        return (Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024) / 1e6;
      }),
    );
  }

  get #carriers(): readonly Program[] {
    const { operator, hub, agent } = this.#parts;
    return [operator, hub, agent];
  }

  async #hear<Told>(part: 'operator' | 'sink', what: string): Promise<Told> {
    const over = new AbortController();
    const late = sleep(DEADLINE_MS, undefined, { signal: over.signal }).then(
      (): Message => ({ fails: `no ${what} in ${DEADLINE_MS} ms` }),
    );
    late.catch(() => {});
    try {
      const told = await Promise.race([this.#parts[part].next(), late, this.#failure]);
      if (typeof told['fails'] === 'string') throw new Error(`its ${part}: ${told['fails']}`);
      // SAFETY: what the programs beside this file answer to what they were asked.
      return told as Told;
    } finally {
      over.abort();
    }
  }
}

async function firstFailure(program: Program, part: string): Promise<never> {
  for (;;) {
    const { fails } = await program.next();
    if (typeof fails === 'string') throw new Error(`its ${part}: ${fails}`);
  }
}
