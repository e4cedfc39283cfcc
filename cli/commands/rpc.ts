/** `fairlead rpc HOST METHOD JSON`: any method of the contract as it is, for debugging and scripts. */
import type { Command } from 'commander';
import { FairleadError, type JsonObject } from '../../shared/errors.ts';
import { type App, withHub } from '../app.ts';

/** Stands for the hub itself where a host is asked for. */
const HUB = '-';

export function registerRpc(program: Command, app: App): void {
  program
    .command('rpc <host> <method> [json]')
    .description('call any method; `-` as host for a method of the hub itself')
    .addHelpText('after', '\nExample:\n  fairlead rpc edge-1 vm.qmp \'{"vm":"web","execute":"query-status"}\'')
    .action(async (host: string, method: string, json: string | undefined, _options: object, command: Command) =>
      withHub(app, command, async ({ hub, output }) => {
        const params = parseParams(json ?? '{}');
        const result = await hub.callRaw(method, host === HUB ? params : { ...params, host });
        output.data(`${JSON.stringify(result, null, output.format === 'jsonl' ? 0 : 2)}\n`);
      }),
    );
}

function parseParams(json: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (error) {
    throw new FairleadError('INVALID_PARAMS', 'the params are no JSON', { cause: error });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new FairleadError('INVALID_PARAMS', 'the params must be a JSON object: methods take named parameters only');
  }
  // SAFETY: a JSON value that is an object and no array has string keys.
  return value as JsonObject;
}
