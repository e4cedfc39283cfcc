/** Methods that tell of the hub itself. */
import { VERSION } from '../../../shared/node/version.ts';
import type { Result } from '../../../shared/protocol/methods.ts';
import type { HUB_METHODS } from '../../../shared/protocol/methods-hub.ts';
import { generateOpenRpc, type OpenRpcDocument } from '../../../shared/protocol/openrpc.ts';
import { CONTRACT_VERSION } from '../../../shared/protocol/version.ts';
import { HOSTS } from '../../store/records.ts';
import type { Store } from '../../store/store.ts';
import type { HubHandlersOf } from './types.ts';

export interface HubFacts {
  readonly hubId: string;
  readonly store: Store;
  /** @throws FairleadError UNSUPPORTED for a hub that keeps nothing */
  backup(): Promise<Result<'hub.backup'>>;
  counts(): { hostsConnected: number; operatorsConnected: number; streamsOpen: number; uptimeMs: number };
}

export function hubHandlers({ hubId, store, backup, counts }: HubFacts): HubHandlersOf<typeof HUB_METHODS> {
  return {
    'rpc.discover': () => ({ ...openRpc() }),
    'hub.backup': () => backup(),
    'hub.info': async () => {
      const hostsEnrolled = await store.collection(HOSTS).count();
      return { version: VERSION, contractVersion: CONTRACT_VERSION, hubId, hostsEnrolled, ...counts() };
    },
  };
}

/** Made on first use: it is some 100 KiB, and most hubs are never asked. */
let openRpcDocument: OpenRpcDocument | undefined;
function openRpc(): OpenRpcDocument {
  openRpcDocument ??= generateOpenRpc();
  return openRpcDocument;
}
