/**
 * Events of VMs over lines that break: each once and in order, from where the last line left off.
 *
 *     start: the place in the host's log, now or as told ──▶ following ── INTERRUPTED, or the host is away ──▶ waiting ──▶ following
 *                                                               └── the signal: over · anything else: rejects
 */
import { Backoff } from '../shared/backoff.ts';
import { isFairleadError } from '../shared/errors.ts';
import type { ErrorCode } from '../shared/protocol/error-table.ts';
import type { OperatorParams } from '../shared/protocol/operator.ts';
import { parseNotification, parseResult } from '../shared/protocol/validate.ts';
import type { VmEvent } from '../shared/protocol/vm-events.ts';
import { pause } from './pause.ts';

/** Milliseconds. */
const FIRST_RETRY_MS = 200;
const MAX_RETRY_MS = 5_000;
/** What another line, or the next one of the host, may cure. */
const PASSING: ReadonlySet<ErrorCode> = new Set(['INTERRUPTED', 'HOST_UNREACHABLE']);

interface Limits {
  readonly signal: AbortSignal;
  readonly timeoutMs?: number;
  readonly onProgress?: (value: unknown) => void;
}

export interface FollowOptions {
  readonly signal: AbortSignal;
  readonly onEvent: (event: VmEvent) => void;
  /** False: the first break ends it, since no other line will come. */
  readonly outlivesLines: boolean;
}

/** A place in the log of a host. */
type Place = Pick<OperatorParams<'vm.events'>, 'since' | 'epoch'>;
type Call = (params: OperatorParams<'vm.events'>, limits: Limits) => Promise<unknown>;

/** `call` makes the call `vm.events`. @throws what the call does, unless it passes */
export async function followEvents(
  call: Call,
  { since, epoch, ...params }: OperatorParams<'vm.events'>,
  { signal, onEvent, outlivesLines }: FollowOptions,
): Promise<void> {
  let place: Place | undefined = since === undefined ? undefined : { since, ...(epoch !== undefined && { epoch }) };
  const backoff = new Backoff({ baseMs: FIRST_RETRY_MS, maxMs: MAX_RETRY_MS });
  const onProgress = (value: unknown): void => {
    const event = parseNotification('vm.event', value);
    place = { since: event.seq, epoch: event.epoch };
    onEvent(event);
  };
  while (!signal.aborted) {
    const begunAt = performance.now();
    try {
      place ??= await endOfLog(call, params, signal);
      await call({ ...params, ...place, follow: true }, { timeoutMs: 0, signal, onProgress });
    } catch (error) {
      if (signal.aborted) return;
      if (!outlivesLines || !isFairleadError(error) || !PASSING.has(error.code)) throw error;
      await pause(backoff.failed(performance.now() - begunAt), signal).catch(() => {});
    }
  }
}

async function endOfLog(call: Call, params: OperatorParams<'vm.events'>, signal: AbortSignal): Promise<Place> {
  const beyond = { ...params, since: Number.MAX_SAFE_INTEGER, limit: 1, follow: false };
  const { epoch, lastSeq } = parseResult('vm.events', await call(beyond, { signal }));
  return { epoch, since: lastSeq };
}
