/**
 * The order in which hosts are changed: the same for the same rollout and hosts, another for each rollout, so that it is not always the same
 * host that goes first.
 *
 * It is stratified over zone, agent version and hardware: first one host of every stratum, the largest stratum first, and then the rest, such that
 * every stretch of the order has of each stratum about its share. So a canary of few hosts meets as many kinds as it has hosts.
 */
import { hash } from 'node:crypto';

/** A host as the selector found it. */
export interface Candidate {
  readonly host: string;
  readonly zone: string;
  readonly agentVersion: string;
  readonly hardware: string;
}

interface Ranked {
  readonly candidate: Candidate;
  /** Where in the order; the lesser goes first. */
  readonly rank: number;
  readonly draw: string;
}

export function orderHosts(rolloutId: string, candidates: readonly Candidate[]): Candidate[] {
  const strata = Map.groupBy(candidates, ({ zone, agentVersion, hardware }) => `${zone}\0${agentVersion}\0${hardware}`);
  const ranked = strata.values().flatMap((members) => rankStratum(rolloutId, members));
  return [...ranked].sort(byRank).map(({ candidate }) => candidate);
}

/** The first of a stratum goes before all that are no first; of two firsts, that of the larger stratum. */
function rankStratum(rolloutId: string, members: readonly Candidate[]): Ranked[] {
  return members
    .map((candidate) => ({ candidate, draw: draw(rolloutId, candidate.host) }))
    .sort((a, b) => compare(a.draw, b.draw))
    .map((drawn, index) => ({ ...drawn, rank: index === 0 ? -members.length : (index + 0.5) / members.length }));
}

function byRank(a: Ranked, b: Ranked): number {
  return a.rank - b.rank || compare(a.draw, b.draw);
}

function draw(rolloutId: string, host: string): string {
  return hash('sha256', `${rolloutId}\0${host}`);
}

export function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
