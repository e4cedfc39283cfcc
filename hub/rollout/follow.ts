/** The events of a rollout as they come, from any of them on, until it has ended. A follower reads the journal, so that a slow one holds up nobody. */
import type { RolloutEvent } from '../../shared/protocol/rollout-events.ts';
import type { Rollouts } from './rollouts.ts';

const PAGE = 256;

/** Ends when the signal fires, too. @throws FairleadError NOT_FOUND */
export async function* followRollout(
  rollouts: Rollouts,
  id: string,
  since: number,
  signal: AbortSignal,
): AsyncGenerator<RolloutEvent, void, undefined> {
  let wake = Promise.withResolvers<void>();
  const onAbort = (): void => wake.resolve();
  signal.addEventListener('abort', onAbort);
  using _ = rollouts.listen((changed) => {
    if (changed === id) wake.resolve();
  });
  try {
    let last = since;
    while (!signal.aborted) {
      const isLast = rollouts.drivers.get(id) === undefined;
      const page = await rollouts.events(id, last, PAGE);
      for (const event of page) {
        yield event;
        last = event.seq;
      }
      if (page.length > 0) continue;
      if (isLast) return;
      await wake.promise;
      wake = Promise.withResolvers();
    }
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
