/** Methods about commands: giving one without waiting, and what became of those that were given. */
import { newCommandId } from '../../../shared/command-id.ts';
import { FairleadError, type JsonObject } from '../../../shared/errors.ts';
import { changesSomething } from '../../../shared/protocol/changes.ts';
import { isMethodName, methodContract } from '../../../shared/protocol/methods.ts';
import type { COMMAND_METHODS, CommandRecord } from '../../../shared/protocol/methods-command.ts';
import { fitting } from '../../../shared/protocol/paging.ts';
import { hasRole } from '../../auth/principal.ts';
import type { Commands } from '../../commands/commands.ts';
import { commandRecord, hasEnded, type KeptCommand } from '../../commands/kept-command.ts';
import type { Caller } from '../caller.ts';
import type { PlacedCall } from '../dispatcher.ts';
import type { HubHandlersOf } from './types.ts';

export interface CommandServices {
  readonly commands: Commands;
  /** As for a call: is it known, allowed, well formed, and which host is it for. @throws FairleadError */
  place(method: string, params: JsonObject, caller: Caller): Promise<PlacedCall>;
}

export function commandHandlers({ commands, place }: CommandServices): HubHandlersOf<typeof COMMAND_METHODS> {
  return {
    'command.submit': async ({ method, params, host, id, whenOffline, timeoutMs }, { caller }) => {
      // SAFETY: params came out of JSON.parse, so their values are JSON.
      const written = { ...params, ...(host === undefined ? {} : { host }) } as JsonObject;
      const call = await place(method, written, caller);
      if (call.contract.target !== 'agent' || !changesSomething(call.method, call.params)) {
        throw new FairleadError('INVALID_PARAMS', `params.method: ${method} changes nothing on a host; call it`);
      }
      const command = { id: id ?? newCommandId(), host: call.host, method, params: call.params };
      const actor = caller.principal.tokenId;
      return shown(await commands.submit({ ...command, actor, whenOffline, timeoutMs }), caller);
    },
    'command.list': ({ host, vm, state, open, after, limit }, { caller }) => {
      const wanted = commands
        .list()
        .filter((command) => host === undefined || command.host === host)
        .filter((command) => vm === undefined || command.vm === vm)
        .filter((command) => state === undefined || command.state === state)
        .filter((command) => !open || !hasEnded(command));
      const from = after === undefined ? 0 : wanted.findIndex(({ id }) => id === after) + 1;
      const rest = wanted.slice(from, from + limit).map((command) => shown(command, caller));
      const rows = fitting(rest);
      const last = rows.at(-1)?.id;
      const isLast = last === undefined || from + rows.length === wanted.length;
      return { commands: [...rows], ...(isLast ? {} : { next: last }) };
    },
    'command.get': ({ id }, { caller }) => shown(commands.get(id), caller),
    'command.wait': async ({ id }, { caller, context }) => shown(await commands.wait(id, context.cancellation), caller),
    'command.cancel': async ({ id }, { caller, context }) => {
      requireOwnRole(commands.get(id), caller);
      return shown(await commands.cancel(id, context.cancellation), caller);
    },
  };
}

/** What went into a command and what came of it is for those who could have given it. */
function shown(command: KeptCommand, caller: Caller): CommandRecord {
  const record = commandRecord(command);
  if (mayGive(command, caller)) return record;
  const { result: _, ...rest } = record;
  return { ...rest, params: '' };
}

function requireOwnRole(command: KeptCommand, caller: Caller): void {
  if (mayGive(command, caller)) return;
  throw new FairleadError(
    'PERMISSION_DENIED',
    `command ${command.id} (${command.method}) is not for role ${caller.principal.role}`,
  );
}

function mayGive({ method }: KeptCommand, { principal }: Caller): boolean {
  return isMethodName(method) && hasRole(principal.role, methodContract(method).role);
}
