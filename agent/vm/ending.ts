/** How a QEMU process ended, judged from what is known of it. */
import type { EndedBy } from './stop-ladder.ts';

export interface EndFacts {
  /** What QEMU said of its end in SHUTDOWN, now or in its trail; undefined when it said nothing. */
  readonly shutdownReason: string | undefined;
  /** The rung of the stop ladder that was being tried, where one was. */
  readonly rung: EndedBy | undefined;
  /** How the process ended, where it was our child. */
  readonly exit?: { readonly code: number | null; readonly signal: string | null } | undefined;
  /** What to call an end that nobody knows the reason of. */
  readonly otherwise: 'lost' | 'host-restart' | 'out-of-memory';
}

export interface Judgement {
  readonly reason: string;
  /** Somebody wished for it: the guest, an operator, whoever sent a SIGTERM. */
  readonly isClean: boolean;
}

/** Reasons in QEMU's SHUTDOWN event that nobody wished for. */
const UNWANTED: readonly string[] = ['host-error', 'guest-panic', 'unknown'];

export function judgeEnd({ shutdownReason, rung, exit, otherwise }: EndFacts): Judgement {
  if (shutdownReason !== undefined) return { reason: shutdownReason, isClean: !UNWANTED.includes(shutdownReason) };
  if (rung === 'sigkill') return { reason: 'sigkill', isClean: true };
  if (otherwise !== 'lost' || exit === undefined) return { reason: otherwise, isClean: false };
  const { code, signal } = exit;
  return { reason: signal !== null ? 'killed' : code !== null ? 'exited' : otherwise, isClean: false };
}
