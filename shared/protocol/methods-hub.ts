/** Methods that tell of the hub itself. */
import * as v from 'valibot';
import { Count } from './common.ts';
import type { MethodContract } from './contract.ts';

const hubCall = { target: 'hub', kind: 'call', since: 1 } as const;

export const HUB_METHODS = {
  'rpc.discover': {
    ...hubCall,
    role: 'viewer',
    idempotent: true,
    summary: 'The OpenRPC document of this contract',
    params: v.strictObject({}),
    result: v.looseObject({ openrpc: v.string() }),
    errors: [],
  },
  'hub.info': {
    ...hubCall,
    role: 'viewer',
    idempotent: true,
    summary: 'Version, contract and counts of the hub',
    params: v.strictObject({}),
    result: v.strictObject({
      version: v.string(),
      contractVersion: Count,
      hubId: v.string(),
      hostsConnected: Count,
      hostsEnrolled: Count,
      operatorsConnected: Count,
      streamsOpen: Count,
      uptimeMs: Count,
    }),
    errors: [],
  },
  'hub.backup': {
    ...hubCall,
    role: 'admin',
    idempotent: false,
    summary:
      "Copy the hub's store, as it is at one moment, into its data directory; `fairlead hub --restore-from` starts from one",
    params: v.strictObject({}),
    result: v.strictObject({ path: v.string(), bytes: Count }),
    errors: ['UNSUPPORTED', 'STORAGE_FAILED'],
  },
} as const satisfies Record<string, MethodContract>;
