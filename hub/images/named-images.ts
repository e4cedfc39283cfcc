/**
 * Images that the hub itself is going to want, though no host has them yet: those of documents, whose hosts may come tomorrow, of rollouts that
 * are under way, and of commands that have not ended. What a host has, and what it was, it says itself.
 */
import { type Digest, digestsIn } from '../../shared/protocol/image-ref.ts';
import type { Commands } from '../commands/commands.ts';
import type { DesiredFleet } from '../desired/desired-fleet.ts';
import type { Rollouts } from '../rollout/rollouts.ts';

export interface NamingParts {
  readonly desired: Pick<DesiredFleet, 'documents'>;
  readonly rollouts: Pick<Rollouts, 'list'>;
  readonly commands: Pick<Commands, 'open'>;
}

/** By digest: who names it. */
export async function namedImages({ desired, rollouts, commands }: NamingParts): Promise<ReadonlyMap<Digest, string>> {
  const named = new Map<Digest, string>();
  const note = (who: string, what: unknown): void => {
    for (const digest of digestsIn(JSON.stringify(what))) named.set(digest, who);
  };
  for (const { id, params = {} } of commands.open()) note(`command ${id}`, params);
  for (const { id, spec, endedAtMs } of await rollouts.list()) if (endedAtMs === undefined) note(`rollout ${id}`, spec);
  for (const document of await desired.documents()) note(`document ${document.name}`, document);
  return named;
}
