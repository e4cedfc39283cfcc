/**
 * Ending a QEMU process, from the gentlest way to the one that cannot be refused:
 *
 *     power button (again every 2 s while the guest has its grace) → quit → SIGTERM → SIGKILL
 *
 * Each rung has its time, and the process's end is what counts, not the answer to a command: QEMU closes QMP before it is gone, and may
 * accept `quit` and hang on its storage. The button is pressed again because a guest whose driver is not up yet loses the press without
 * a word.
 */
import { FairleadError } from '../../shared/errors.ts';
import { orAborted, settledWithin } from './deadline.ts';

export type EndedBy = 'guest' | 'quit' | 'sigterm' | 'sigkill';

export interface LadderTarget {
  /** For messages. */
  readonly vm: string;
  readonly exited: Promise<unknown>;
  signal(name: 'SIGTERM' | 'SIGKILL'): void;
  /** One QMP command. May reject: the next rung comes all the same. */
  execute(command: 'system_powerdown' | 'quit', options: { timeoutMs: number; signal: AbortSignal }): Promise<unknown>;
}

export interface LadderTimes {
  readonly pressEveryMs: number;
  readonly quitMs: number;
  readonly sigtermMs: number;
  readonly sigkillMs: number;
}

export const LADDER_TIMES: LadderTimes = { pressEveryMs: 2_000, quitMs: 5_000, sigtermMs: 5_000, sigkillMs: 10_000 };

export interface LadderOptions {
  /** 0 begins with `quit`. */
  readonly graceMs: number;
  readonly times?: LadderTimes;
  /** Leaves the ladder where it stands; `onRung` said where. */
  readonly signal: AbortSignal;
  readonly onRung: (rung: EndedBy) => void;
}

/**
 * Resolves when the process is gone, with the rung that was being tried then.
 * @throws FairleadError PROCESS_FAILED when even SIGKILL did not end it; the signal's reason when it was aborted.
 */
export async function descend(target: LadderTarget, options: LadderOptions): Promise<EndedBy> {
  const { times = LADDER_TIMES, signal, graceMs, onRung } = options;
  const gone = (withinMs: number): Promise<boolean> => orAborted(settledWithin(target.exited, withinMs), signal);
  const rung = (name: EndedBy): EndedBy => {
    signal.throwIfAborted();
    onRung(name);
    return name;
  };

  if (graceMs > 0) {
    const by = rung('guest');
    const endsAt = performance.now() + graceMs;
    for (let leftMs = graceMs; leftMs > 0; leftMs = endsAt - performance.now()) {
      const turnMs = Math.min(leftMs, times.pressEveryMs);
      drop(target.execute('system_powerdown', { timeoutMs: turnMs, signal }));
      if (await gone(turnMs)) return by;
    }
  }

  rung('quit');
  drop(target.execute('quit', { timeoutMs: times.quitMs, signal }));
  if (await gone(times.quitMs)) return 'quit';

  rung('sigterm');
  target.signal('SIGTERM');
  if (await gone(times.sigtermMs)) return 'sigterm';

  rung('sigkill');
  target.signal('SIGKILL');
  if (await gone(times.sigkillMs)) return 'sigkill';
  const message = `QEMU of VM ${target.vm} is still there ${times.sigkillMs} ms after SIGKILL: it hangs in the kernel, most likely on storage`;
  throw new FairleadError('PROCESS_FAILED', message);
}

/** Whether a command was taken shows in the process's end. */
function drop(promise: Promise<unknown>): void {
  promise.catch(() => {});
}
