/**
 * Desired state of the fleet: the documents, what each host is to have of them, and how far the hosts have it.
 *
 * Whenever something bears on a host (a document, its labels, that it is cordoned, that it connects) what it is to have is made out anew. Is
 * it other than before, it gets a generation of its own, higher than any before it; a host that has not acknowledged its generation is
 * given it, at once or when it connects. So it does not matter what was missed, or when the hub ended.
 */
import * as v from 'valibot';
import { newCommandId } from '../../shared/command-id.ts';
import { FairleadError, toFairleadError } from '../../shared/errors.ts';
import type { JsonRpcPeer } from '../../shared/jsonrpc/peer.ts';
import { Count, Name } from '../../shared/protocol/common.ts';
import type { Params, Result } from '../../shared/protocol/methods.ts';
import { FleetDocument } from '../../shared/protocol/methods-desired.ts';
import { fitting } from '../../shared/protocol/paging.ts';
import type { Images } from '../images/images.ts';
import type { HubLogger } from '../logger.ts';
import type { HubState } from '../state.ts';
import { HOSTS } from '../store/records.ts';
import { type Collection, defineCollection } from '../store/store.ts';
import { changesOn, digestOf, type PlannedHost, requireFitting, vmsOfHost } from './plan.ts';

const AppliedDocument = v.strictObject({ document: FleetDocument, by: v.string(), appliedAtMs: Count });
const DOCUMENTS = defineCollection('documents', AppliedDocument);

const HostUpkeep = v.strictObject({
  host: Name,
  generation: Count,
  digest: v.string(),
  acknowledged: Count,
  vms: Count,
  /** Of the store that gave the generation: from another one, nobody knows what the host was given since. */
  history: v.optional(v.string()),
});
type HostUpkeep = v.InferOutput<typeof HostUpkeep>;
const UPKEEP = defineCollection('host_upkeep', HostUpkeep);

const Acknowledged = v.object({ generation: Count });

const SET_TIMEOUT_MS = 30_000;
const RETRY_MS = 30_000;
const HOSTS_AT_ONCE = 64;

export interface DesiredFleetOptions extends Pick<HubState, 'store' | 'inventory' | 'bus' | 'eventEpoch'> {
  /** A tag stands for what it stood for when the document was applied. */
  readonly images: Pick<Images, 'resolvedSpec'>;
  peerOf(host: string): JsonRpcPeer | undefined;
  /** Unix milliseconds. */
  readonly now: () => number;
  readonly logger: HubLogger;
}

export class DesiredFleet implements Disposable {
  readonly #options: DesiredFleetOptions;
  readonly #documents: Collection<v.InferOutput<typeof AppliedDocument>>;
  readonly #upkeep: Collection<HostUpkeep>;
  /** Hosts that are being seen to; true: once more after that. */
  readonly #busy = new Map<string, boolean>();
  readonly #retries = new Map<string, NodeJS.Timeout>();
  readonly #scope = new DisposableStack();
  #applying: Promise<unknown> = Promise.resolve();
  /** As they were read last; undefined once one is changed, which is done here alone. A fleet that connects asks for them once a host. */
  #applied: Promise<readonly FleetDocument[]> | undefined;

  constructor(options: DesiredFleetOptions) {
    this.#options = options;
    this.#documents = options.store.collection(DOCUMENTS);
    this.#upkeep = options.store.collection(UPKEEP);
    for (const topic of ['host.connected', 'host.changed'] as const) {
      this.#scope.use(options.bus.subscribe(topic, ({ host }) => this.#see(host)));
    }
  }

  /** One after the other, for each is checked against all others. */
  apply({ document, dryRun }: Params<'fleet.apply'>, by: string): Promise<Result<'fleet.apply'>> {
    const applied = this.#applying.then(async () => this.#apply(await this.#resolved(document), dryRun, by));
    this.#applying = applied.catch(() => {});
    return applied;
  }

  async remove(name: string): Promise<void> {
    await this.#find(name);
    await this.#documents.discard(name).finally(() => this.#forgetApplied());
    await this.#seeAll();
  }

  async list(): Promise<Result<'fleet.list'>> {
    const documents = (await this.#documents.list()).map(({ value: { document, by, appliedAtMs } }) => ({
      name: document.name,
      rows: document.vms.length,
      appliedAt: new Date(appliedAtMs).toISOString(),
      by,
    }));
    return { documents };
  }

  async get(name: string): Promise<Result<'fleet.get'>> {
    const { document } = await this.#find(name);
    const rows: Result<'fleet.get'>['hosts'] = [];
    for (const host of await this.#hosts()) {
      if (this.#wantedBy(host, [document]).length === 0) continue;
      const upkeep = (await this.#upkeep.get(host.host))?.value;
      const connected = this.#options.peerOf(host.host) !== undefined;
      const { generation = 0, acknowledged = 0, vms = 0 } = upkeep ?? {};
      rows.push({ host: host.host, connected, generation, acknowledged, vms });
    }
    const hosts = [...fitting(rows)];
    return { document, hosts, omitted: rows.length - hosts.length };
  }

  /** Resolves once the host, if it has a line, keeps what it is to have by now. @throws FairleadError what the host answers */
  async give(host: string): Promise<void> {
    const state = (await this.#options.store.collection(HOSTS).get(host))?.value;
    if (state === undefined) return await this.#upkeep.discard(host);
    const recorded = await this.#record(state, await this.documents());
    const peer = this.#options.peerOf(host);
    if (recorded === undefined || peer === undefined) return;
    const { generation } = recorded.upkeep;
    if (recorded.upkeep.acknowledged >= generation) return;
    const meta = { commandId: newCommandId(), actor: 'desired-state' };
    try {
      const answer = await peer.call('desired.set', { ...recorded.state }, { timeoutMs: SET_TIMEOUT_MS, meta });
      const { generation: acknowledged } = v.parse(Acknowledged, answer);
      await this.#upkeep.modify(host, (upkeep) => ({ ...upkeep, acknowledged }));
    } catch (thrown) {
      await this.#goBeyond(host, toFairleadError(thrown));
      throw thrown;
    }
  }

  /** A host that has a later generation than it was given (the clock that numbered it was set back) is given one beyond that the next time. */
  async #goBeyond(host: string, { code, details }: FairleadError): Promise<void> {
    const had = v.safeParse(Acknowledged, details);
    if (code !== 'CONFLICT' || !had.success) return;
    const generation = had.output.generation + 1;
    const raised = await this.#upkeep.modify(host, (upkeep) =>
      upkeep.generation < generation ? { ...upkeep, generation } : undefined,
    );
    if (raised !== undefined) this.#see(host);
  }

  [Symbol.dispose](): void {
    this.#scope.dispose();
    for (const timer of this.#retries.values()) clearTimeout(timer);
  }

  async #apply(document: FleetDocument, dryRun: boolean, by: string): Promise<Result<'fleet.apply'>> {
    const others = (await this.documents()).filter(({ name }) => name !== document.name);
    const documents = [...others, document];
    const hosts = await this.#hosts();
    const { inventory } = this.#options;
    const rows = hosts.flatMap((host) => {
      const wanted = this.#wantedBy(host, documents);
      requireFitting(host.host, wanted);
      return changesOn(host.host, document.name, wanted, inventory.vmsOf(host.host));
    });
    if (!dryRun) {
      const applied = { document, by, appliedAtMs: this.#options.now() };
      await this.#documents.put(document.name, applied).finally(() => this.#forgetApplied());
      await this.#seeAll();
    }
    const changes = [...fitting(rows.filter(({ change }) => change !== 'keep'))];
    const changed = rows.filter(({ change }) => change !== 'keep').length;
    return { changes, hosts: new Set(rows.map(({ host }) => host)).size, omitted: changed - changes.length };
  }

  async #resolved(document: FleetDocument): Promise<FleetDocument> {
    const { images } = this.#options;
    const vms = await Promise.all(document.vms.map(async (row) => ({ ...row, spec: await images.resolvedSpec(row.spec) })));
    return { ...document, vms };
  }

  #wantedBy(host: PlannedHost, documents: readonly FleetDocument[]) {
    return vmsOfHost(host, documents, (vm) => this.#options.inventory.get(host.host, vm) !== undefined);
  }

  async #find(name: string): Promise<v.InferOutput<typeof AppliedDocument>> {
    const stored = await this.#documents.get(name);
    if (stored !== undefined) return stored.value;
    throw new FairleadError('NOT_FOUND', `no document ${name} is applied`);
  }

  /** All that are applied. */
  documents(): Promise<readonly FleetDocument[]> {
    this.#applied ??= this.#documents.list().then((stored) => stored.map(({ value }) => value.document));
    this.#applied.catch(() => this.#forgetApplied());
    return this.#applied;
  }

  #forgetApplied(): void {
    this.#applied = undefined;
  }

  async #hosts(): Promise<PlannedHost[]> {
    return (await this.#options.store.collection(HOSTS).list()).map(({ value }) => value);
  }

  /** Resolves once what each host is to have is durable; the hosts are given it in their own time. */
  async #seeAll(): Promise<void> {
    const documents = await this.documents();
    const hosts = await this.#hosts();
    const queue = hosts.values();
    const worker = async () => {
      for (const host of queue) {
        await this.#record(host, documents);
        this.#see(host.host);
      }
    };
    await Promise.all(Array.from({ length: HOSTS_AT_ONCE }, worker));
  }

  /** What the host is to have, with a generation of its own where it is other than before; undefined for one that never had any. */
  async #record(host: PlannedHost, documents: readonly FleetDocument[]) {
    const vms = this.#wantedBy(host, documents);
    const before = (await this.#upkeep.get(host.host))?.value;
    if (before === undefined && vms.length === 0) return undefined;
    const hold = host.cordoned?.drained === true;
    const digest = digestOf({ hold, vms });
    const { eventEpoch: history } = this.#options;
    if (before?.digest === digest && before.history === history)
      return { upkeep: before, state: { generation: before.generation, hold, vms } };
    const generation = Math.max((before?.generation ?? 0) + 1, this.#options.now());
    const upkeep = { host: host.host, generation, digest, acknowledged: before?.acknowledged ?? 0, vms: vms.length, history };
    await this.#upkeep.put(host.host, upkeep);
    return { upkeep, state: { generation, hold, vms } };
  }

  /** Bottom half: sees to one host, once at a time. */
  #see(host: string): void {
    const isBusy = this.#busy.has(host);
    this.#busy.set(host, isBusy);
    if (!isBusy) void this.#seeTo(host);
  }

  async #seeTo(host: string): Promise<void> {
    const { logger } = this.#options;
    clearTimeout(this.#retries.get(host));
    this.#retries.delete(host);
    try {
      await this.give(host);
    } catch (thrown) {
      const { code, message } = toFairleadError(thrown);
      logger.warn({ host, code }, `could not give host ${host} its desired state: ${message}`);
      if (code !== 'INTERRUPTED') this.#retries.set(host, setTimeout(() => this.#see(host), RETRY_MS).unref());
    } finally {
      const isDue = this.#busy.get(host) === true;
      this.#busy.delete(host);
      if (isDue) this.#see(host);
    }
  }
}
