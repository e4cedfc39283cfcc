/**
 * Ending a QEMU process, from the gentlest way to the one that cannot be refused:
 *
 *     guest: its agent where it has one, and the power button (again every 2 s while it has its grace) → quit → SIGTERM → SIGKILL
 *
 * Each rung has its time, and the process's end is what counts, not the answer to a command: QEMU closes QMP before it is gone, and may
 * accept `quit` and hang on its storage. The button is pressed again because a guest whose driver is not up yet loses the press without
 * a word.
 */
import { FairleadError } from '../../shared/errors.ts';
import { orAborted, settledWithin } from './deadline.ts';

export const RUNGS = ['guest', 'quit', 'sigterm', 'sigkill'] as const;
export type EndedBy = (typeof RUNGS)[number];

export interface LadderTarget {
  /** For messages. */
  readonly vm: string;
  readonly exited: Promise<unknown>;
  signal(name: 'SIGTERM' | 'SIGKILL'): void;
  /** Asks the guest's agent to shut down, where the guest has one. May reject: the button is pressed then. */
  readonly shutdownGuest?: ((options: { timeoutMs: number; signal: AbortSignal }) => Promise<void>) | undefined;
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
  /** Before a rung is tried, which waits for it. */
  readonly onRung: (rung: EndedBy) => Promise<void> | void;
}

/**
 * Resolves when the process is gone, with the rung that was being tried then.
 * @throws FairleadError PROCESS_FAILED when even SIGKILL did not end it; the signal's reason when it was aborted.
 */
export async function descend(target: LadderTarget, options: LadderOptions): Promise<EndedBy> {
  const { times = LADDER_TIMES, signal, graceMs, onRung } = options;
  const gone = (withinMs: number): Promise<boolean> => orAborted(settledWithin(target.exited, withinMs), signal);
  const rung = async (name: EndedBy): Promise<EndedBy> => {
    signal.throwIfAborted();
    await onRung(name);
    signal.throwIfAborted();
    return name;
  };
  const press = (timeoutMs: number): void => drop(target.execute('system_powerdown', { timeoutMs, signal }));

  if (graceMs > 0) {
    const by = await rung('guest');
    const endsAt = performance.now() + graceMs;
    let isAsked = target.shutdownGuest === undefined;
    for (let leftMs = graceMs; leftMs > 0; leftMs = endsAt - performance.now()) {
      const turnMs = Math.min(leftMs, times.pressEveryMs);
      if (isAsked) press(turnMs);
      else target.shutdownGuest?.({ timeoutMs: turnMs, signal }).catch(() => press(turnMs));
      isAsked = true;
      if (await gone(turnMs)) return by;
    }
  }

  await rung('quit');
  drop(target.execute('quit', { timeoutMs: times.quitMs, signal }));
  if (await gone(times.quitMs)) return 'quit';

  await rung('sigterm');
  target.signal('SIGTERM');
  if (await gone(times.sigtermMs)) return 'sigterm';

  await rung('sigkill');
  await orAborted(endAtOnce(target, times), signal);
  return 'sigkill';
}

/** For a process that has nothing left to do. @throws FairleadError PROCESS_FAILED */
export async function endAtOnce(target: Pick<LadderTarget, 'vm' | 'exited' | 'signal'>, times: LadderTimes): Promise<void> {
  target.signal('SIGKILL');
  if (await settledWithin(target.exited, times.sigkillMs)) return;
  const message = `QEMU of VM ${target.vm} is still there ${times.sigkillMs} ms after SIGKILL: it hangs in the kernel, most likely on storage`;
  throw new FairleadError('PROCESS_FAILED', message);
}

/** Whether a command was taken shows in the process's end. */
function drop(promise: Promise<unknown>): void {
  promise.catch(() => {});
}
