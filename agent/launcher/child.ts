/**
 * One run of a release, as a child of the launcher.
 *
 *     running ── it ends ─────────────────────────────▶ ended
 *        │ asked to leave: told to stop ──▶ leaving ──▶ ended
 *        └─────────────────────────────────────┴ its time is over: SIGKILL
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { knownMessage, LAUNCHED_VARIABLE, type ToLauncher, type ToRelease } from './messages.ts';

export interface Ending {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** It could not even be begun. */
  readonly error?: Error;
}

export class Child {
  readonly ended: Promise<Ending>;
  readonly #process: ChildProcess;
  #deadline: NodeJS.Timeout | undefined;

  constructor(entry: string, args: readonly string[], onMessage: (message: ToLauncher) => void) {
    const { WATCHDOG_PID: _, ...env } = process.env;
    // The service manager watches the launcher's pid; what keeps it content are the words of the release.
    this.#process = spawn(process.execPath, [entry, 'agent', ...args], {
      stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
      env: { ...env, [LAUNCHED_VARIABLE]: '1' },
    });
    this.ended = new Promise((resolve) => {
      this.#process.once('error', (error) => resolve({ code: null, signal: null, error }));
      this.#process.once('exit', (code, signal) => resolve({ code, signal }));
    });
    void this.ended.then(() => clearTimeout(this.#deadline));
    this.#process.on('message', (value) => {
      const message = knownMessage<ToLauncher>(value);
      if (message !== undefined) onMessage(message);
    });
  }

  get pid(): number | undefined {
    return this.#process.pid;
  }

  tell(message: ToRelease): void {
    // One that ends in this moment hears nothing, and is heard of by its end.
    if (this.#process.connected) this.#process.send(message, () => {});
  }

  /** It is about to end, or is told to; SIGKILL when it has not within that time. */
  leave(withinMs: number, { isTold }: { readonly isTold: boolean }): void {
    if (isTold) this.tell({ type: 'stop' });
    clearTimeout(this.#deadline);
    this.#deadline = setTimeout(() => this.kill(), withinMs);
  }

  kill(): void {
    this.#process.kill('SIGKILL');
  }
}
