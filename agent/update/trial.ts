/**
 * A release on trial proves itself: it has its state directory for itself, has adopted the VMs (it can read every record that the release before could),
 * can write its journal, has a line to the hub, and has answered a question of the hub over it; all of that for a second on end. The launcher holds it to
 * its time.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { failpoint } from '../failpoint.ts';
import type { LauncherLine } from './launcher-line.ts';

export interface Tried {
  /** Undefined when nothing is missing. */
  whyUnfit(): Promise<string | undefined>;
  readonly brokenVms: readonly string[];
}

const LOOK_MS = 100;
const LOOKS_ON_END = 10;

/** Nothing to do for a release that is settled. Settles when the launcher keeps this one, or the signal fires. */
export async function proveItself(agent: Tried, launcher: LauncherLine, signal: AbortSignal): Promise<void> {
  const trial = await launcher.trial();
  if (trial === undefined) return;
  const known = new Set(trial.brokenVms);
  let told: string | undefined;
  for (let good = 0; good < LOOKS_ON_END && !signal.aborted; ) {
    const lost = agent.brokenVms.find((name) => !known.has(name));
    const why = lost === undefined ? await agent.whyUnfit() : `it cannot read the record of VM ${lost}`;
    good = why === undefined ? good + 1 : 0;
    if (why !== undefined && why !== told) launcher.waitsFor(why);
    told = why;
    await sleep(LOOK_MS, undefined, { signal }).catch(() => {});
  }
  if (signal.aborted) return;
  await failpoint('update.healthy');
  await launcher.healthy();
}
