/**
 * The record of a command, as a caller may see it. What went into the command and what came of it, such as the output of a program in a
 * guest, is for those who could have given the command; that it was given, by whom, and how it ended is for everybody.
 */
import type { Role } from '../../shared/protocol/contract.ts';
import { isMethodName, methodContract } from '../../shared/protocol/methods.ts';
import { hasRole } from '../auth/principal.ts';

/** `answer` is what a host has answered to `op.get`. */
export function shownOperation(answer: unknown, role: Role): unknown {
  if (typeof answer !== 'object' || answer === null) return answer;
  const method = 'method' in answer && typeof answer.method === 'string' ? answer.method : '';
  // Of what this hub does not know, it does not know either whom it is for.
  const needed = isMethodName(method) ? methodContract(method).role : 'admin';
  if (hasRole(role, needed)) return answer;
  return Object.fromEntries(Object.entries(answer).filter(([name]) => name !== 'params' && name !== 'result'));
}
