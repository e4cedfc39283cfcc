/** Who calls, and what that lets them do. */
import { FairleadError } from '../../shared/errors.ts';
import type { Role } from '../../shared/protocol/contract.ts';

export interface Principal {
  readonly tokenId: string;
  readonly role: Role;
  readonly description: string;
  /** Unix milliseconds; absent: never. */
  readonly expiresAtMs: number | undefined;
}

const RANK: Readonly<Record<Role, number>> = { viewer: 0, operator: 1, admin: 2 };

export function hasRole(role: Role, needed: Role): boolean {
  return RANK[role] >= RANK[needed];
}

/** @throws FairleadError UNAUTHENTICATED once the token has expired, PERMISSION_DENIED when the role is too low. */
export function requireRole(principal: Principal, role: Role, method: string, nowMs: number): void {
  if (principal.expiresAtMs !== undefined && principal.expiresAtMs <= nowMs) {
    throw new FairleadError('UNAUTHENTICATED', `token ${principal.tokenId} expired while it was in use; sign in with another`);
  }
  if (!hasRole(principal.role, role)) {
    const message = `${method} needs role ${role}, token ${principal.tokenId} has role ${principal.role}`;
    throw new FairleadError('PERMISSION_DENIED', message, { details: { role: principal.role, required: role } });
  }
}
