/** What the processes of a simulated fleet say to each other. */
import type { SimScript } from './script.ts';
import type { HubAccess } from './sim-host.ts';

/** From the parent, once: what this process is to simulate. After it comes `stop`, or the parent's end. */
export interface Order {
  readonly hosts: readonly { readonly name: string; readonly index: number }[];
  readonly access: HubAccess;
  readonly script: SimScript;
  readonly directory: string;
  /** File of the hosts' disk, in that directory. */
  readonly disk: string;
  /** Unix milliseconds, from which the script's times count. */
  readonly startedAt: number;
}

/** From each process, once a second; added up by the parent. */
export interface SimCounts {
  readonly hosts: number;
  /** With a line to the hub. */
  readonly up: number;
  /** That could not begin at all. */
  readonly broken: number;
  readonly operationsDone: number;
  readonly operationsFailed: number;
  readonly rssBytes: number;
  /** Why a line or an attempt ended last. */
  readonly lastError: string | undefined;
}

export const EMPTY_COUNTS: SimCounts = {
  hosts: 0,
  up: 0,
  broken: 0,
  operationsDone: 0,
  operationsFailed: 0,
  rssBytes: 0,
  lastError: undefined,
};

export function addCounts(a: SimCounts, b: SimCounts): SimCounts {
  return {
    hosts: a.hosts + b.hosts,
    up: a.up + b.up,
    broken: a.broken + b.broken,
    operationsDone: a.operationsDone + b.operationsDone,
    operationsFailed: a.operationsFailed + b.operationsFailed,
    rssBytes: a.rssBytes + b.rssBytes,
    lastError: b.lastError ?? a.lastError,
  };
}
