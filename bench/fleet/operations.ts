/**
 * One command on every host through the hub, as many at once as the hub takes of one operator, while others watch the fleet's events. Each
 * command is in the hub's store and in its host's journal, on disk.
 */
import { connectHub, type HubConnection } from '../../cli/connection.ts';

const AT_ONCE = 200;
const WATCHERS = 10;
const TIMEOUT_MS = 120_000;

export interface OperationFigures {
  readonly operations: number;
  /** Events told to all watchers together, a second. */
  readonly fanOut: number;
}

export async function hostOperations(fleet: { url: string; adminToken: string; hosts: number }): Promise<OperationFigures> {
  const { url, adminToken, hosts } = fleet;
  await using scope = new AsyncDisposableStack();
  const connect = () => connectHub({ hub: url, token: adminToken }, { timeoutMs: TIMEOUT_MS });
  const operator = scope.use(await connect());
  const over = new AbortController();
  scope.defer(() => over.abort());
  const watching = await Promise.all(
    Array.from({ length: WATCHERS }, async () => watch(scope.use(await connect()), hosts, over.signal)),
  );
  const startedAt = performance.now();
  const since = () => (performance.now() - startedAt) / 1000;
  const names = Array.from({ length: hosts }, (_, index) => `sim-${String(index + 1).padStart(5, '0')}`).values();
  const work = async (): Promise<void> => {
    for (const host of names) await operator.call('vm.reset', { vm: 'vm-1' }, host);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  const operations = hosts / since();
  await Promise.all(watching.map(({ all }) => all));
  return { operations, fanOut: (hosts * WATCHERS) / since() };
}

/** Resolves once it watches; `all` once it has been told of so many resets. */
async function watch(hub: HubConnection, hosts: number, signal: AbortSignal): Promise<{ all: Promise<void> }> {
  const { lastSeq: since, epoch } = await hub.call('event.list', { limit: 1, types: ['none'] });
  const { promise: all, resolve, reject } = Promise.withResolvers<void>();
  let left = hosts;
  const params = { follow: true, since, epoch, types: ['vm.reset'] };
  const onProgress = (): void => {
    left -= 1;
    if (left === 0) resolve();
  };
  hub.client.callRaw('event.list', params, { signal, timeoutMs: 0, onProgress }).catch(reject);
  all.catch(() => {});
  return { all };
}
