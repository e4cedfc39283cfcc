/** The methods that the hub answers itself, one row each; params have been validated. */
import { FairleadError, type JsonObject } from '../../shared/errors.ts';
import { VERSION } from '../../shared/node/version.ts';
import { type HubMethodName, type MethodName, methodContract, type Params, type Result } from '../../shared/protocol/methods.ts';
import type { HostRecord } from '../../shared/protocol/methods-hub.ts';
import { generateOpenRpc, type OpenRpcDocument } from '../../shared/protocol/openrpc.ts';
import { pageFrom } from '../../shared/protocol/paging.ts';
import { parseParams } from '../../shared/protocol/validate.ts';
import { CONTRACT_VERSION } from '../../shared/protocol/version.ts';
import type { TokenService } from '../auth/tokens.ts';
import { HOSTS, type HostState } from '../store/records.ts';
import { removeLatest, type Store } from '../store/store.ts';

/** What a session adds to what the store knows of a host. */
export interface LiveHost {
  readonly rttMs: number | undefined;
  readonly remoteAddress: string;
}

export interface HubServices {
  readonly hubId: string;
  readonly store: Store;
  readonly tokens: TokenService;
  liveHost(host: string): LiveHost | undefined;
  /** Closes the host's line, if it has one. */
  disconnectHost(host: string): void;
  counts(): { hostsConnected: number; operatorsConnected: number; streamsOpen: number; uptimeMs: number };
}

type Handlers = { readonly [M in HubMethodName]: (params: Params<M>, services: HubServices) => Result<M> | Promise<Result<M>> };

const HANDLERS: Handlers = {
  'rpc.discover': () => ({ ...openRpc() }),
  'hub.info': async (_params, { hubId, store, counts }) => {
    const hostsEnrolled = await store.collection(HOSTS).count();
    return { version: VERSION, contractVersion: CONTRACT_VERSION, hubId, hostsEnrolled, ...counts() };
  },
  'host.list': async (params, services) => {
    const hosts = (await services.store.collection(HOSTS).list()).map(({ value }) => hostRecord(value, services));
    const { rows, next } = pageFrom(hosts, ({ host }) => host, params);
    return { hosts: [...rows], ...(next === undefined ? {} : { next }) };
  },
  'host.get': async ({ host }, services) => {
    const stored = await services.store.collection(HOSTS).get(host);
    if (stored === undefined) throw new FairleadError('NOT_FOUND', `no host ${host} is enrolled`);
    return hostRecord(stored.value, services);
  },
  'host.remove': async ({ host }, { store, disconnectHost }) => {
    if (!(await removeLatest(store.collection(HOSTS), host))) throw new FairleadError('NOT_FOUND', `no host ${host} is enrolled`);
    disconnectHost(host);
    return {};
  },
  'token.create': (params, { tokens }) => tokens.create(params),
  'token.list': (_params, { tokens }) => tokens.list(),
  'token.revoke': async ({ id }, { tokens }) => {
    await tokens.revoke(id);
    return {};
  },
};

/** Made on first use: it is some 100 KiB, and most hubs are never asked. */
let openRpcDocument: OpenRpcDocument | undefined;
function openRpc(): OpenRpcDocument {
  openRpcDocument ??= generateOpenRpc();
  return openRpcDocument;
}

export function isHubMethod(method: MethodName): method is HubMethodName {
  return methodContract(method).target === 'hub';
}

export async function answerHubMethod<M extends HubMethodName>(
  method: M,
  params: JsonObject,
  services: HubServices,
): Promise<Result<M>> {
  return await HANDLERS[method](parseParams(method, params), services);
}

function hostRecord(state: HostState, services: HubServices): HostRecord {
  const { host, labels, epoch, agentVersion, contractVersion, enrolledAtMs, lastSeenAtMs } = state;
  const live = services.liveHost(host);
  return {
    host,
    connected: live !== undefined,
    labels,
    enrolledAt: new Date(enrolledAtMs).toISOString(),
    epoch,
    ...(lastSeenAtMs === undefined ? {} : { lastSeenAt: new Date(lastSeenAtMs).toISOString() }),
    ...(agentVersion === undefined ? {} : { agentVersion }),
    ...(contractVersion === undefined ? {} : { contractVersion }),
    ...(live === undefined ? {} : { remoteAddress: live.remoteAddress }),
    ...(live?.rttMs === undefined ? {} : { rttMs: live.rttMs }),
  };
}
