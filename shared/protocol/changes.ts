/**
 * Which calls change something. Those are journalled by the agent, so that each happens once, and written to the hub's audit log; the
 * others may be repeated at will and cost nothing of that.
 */
import type { JsonObject } from '../errors.ts';
import { isMethodName, METHODS, methodContract } from './methods.ts';

/** What a viewer may call changes nothing; opening a stream does not either. Made once, because every call is looked up here. */
const CHANGES: ReadonlySet<string> = new Set(Object.keys(METHODS).filter(isMethodName).filter(changesByContract));

function changesByContract(method: keyof typeof METHODS): boolean {
  const { role, kind } = methodContract(method);
  return kind === 'call' && role !== 'viewer';
}

/** False for a method that is not known. A question to QEMU changes nothing, although only an administrator may ask it. */
export function changesSomething(method: string, params: JsonObject): boolean {
  if (!CHANGES.has(method)) return false;
  return method !== 'vm.qmp' || !isQuery(params['execute']);
}

function isQuery(command: unknown): boolean {
  return typeof command === 'string' && command.startsWith('query-');
}
