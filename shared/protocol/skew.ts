/** What a peer of another contract version can be asked. Agents say their version in HELLO; upgrade hubs first, then agents. */
import { FairleadError } from '../errors.ts';
import { type MethodName, methodContract } from './methods.ts';
import { CONTRACT_VERSION, SUPPORTED_VERSION_SKEW } from './version.ts';

/** The oldest contract version that this build still speaks with. */
export const OLDEST_SUPPORTED_VERSION = Math.max(1, CONTRACT_VERSION - SUPPORTED_VERSION_SKEW);

/** A newer peer is fine: versions only add, and it is asked only what this build knows. */
export function isSupportedVersion(peerVersion: number): boolean {
  return Number.isSafeInteger(peerVersion) && peerVersion >= OLDEST_SUPPORTED_VERSION;
}

export function knowsMethod(peerVersion: number, method: MethodName): boolean {
  return methodContract(method).since <= peerVersion;
}

/** Throws METHOD_NOT_FOUND when the peer is too old for the method. `peer` names it: `host edge-1`. */
export function requireKnownMethod(peerVersion: number, method: MethodName, peer: string): void {
  if (knowsMethod(peerVersion, method)) return;
  const { since } = methodContract(method);
  throw new FairleadError(
    'METHOD_NOT_FOUND',
    `${peer} speaks contract version ${peerVersion} and ${method} came with version ${since}; upgrade it`,
    { details: { peerVersion, since } },
  );
}
