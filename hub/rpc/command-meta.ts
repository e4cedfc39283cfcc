/**
 * What a caller says of a command beside its params: an id, so that a repeat is the same command, and what is to become of it while its host
 * is away. One that has no id is given one here, and told it when the command fails.
 */
import * as v from 'valibot';
import { newCommandId } from '../../shared/command-id.ts';
import type { JsonObject } from '../../shared/errors.ts';
import { WhenOffline } from '../../shared/protocol/methods-command.ts';
import { CommandId } from '../../shared/protocol/methods-operation.ts';
import { parseWith } from '../../shared/protocol/parse-with.ts';

const Meta = v.looseObject({ commandId: v.optional(CommandId), whenOffline: v.optional(WhenOffline, 'fail') });

export interface CommandMeta {
  readonly commandId: string;
  readonly whenOffline: WhenOffline;
}

/** @throws FairleadError INVALID_PARAMS */
export function commandMeta(meta: JsonObject): CommandMeta {
  const { commandId = newCommandId(), whenOffline } = parseWith(Meta, meta, 'params._meta');
  return { commandId, whenOffline };
}
