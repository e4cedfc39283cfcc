/**
 * Passing on a call that changes something: with an id, so that the host runs it once however often it comes, and with who gave it. An
 * operator that gave no id is told the one that was made here when the call fails, and can ask for its record.
 */
import * as v from 'valibot';
import { newCommandId, withCommandId } from '../../shared/command-id.ts';
import type { JsonObject } from '../../shared/errors.ts';
import { forwardOptions } from '../../shared/jsonrpc/forward.ts';
import type { JsonRpcPeer } from '../../shared/jsonrpc/peer.ts';
import type { RequestContext } from '../../shared/jsonrpc/types.ts';
import { CommandId } from '../../shared/protocol/methods-operation.ts';
import { parseWith } from '../../shared/protocol/parse-with.ts';

/** @throws FairleadError what the host answers, or INVALID_PARAMS for a malformed id. */
export async function forwardCommand(
  host: JsonRpcPeer,
  { method, params }: { readonly method: string; readonly params: JsonObject },
  context: RequestContext,
  actor: string,
): Promise<unknown> {
  const given = parseWith(v.optional(CommandId), context.meta['commandId'], 'params._meta.commandId');
  const commandId = given ?? newCommandId();
  try {
    return await host.call(method, params, { ...forwardOptions(context), meta: { commandId, actor } });
  } catch (error) {
    throw withCommandId(error, commandId);
  }
}
