/**
 * What a session learns of its host without being asked by an operator: its VMs, and what happens to them.
 *
 *     listing ──vm.list──▶ catching up ──vm.events since the last one we have──▶ live
 *                              ▲                                                 │
 *                              └── an event that is not the next one ────────────┘
 *
 * Events that come while the list is on its way change the inventory after it, in their order. The inventory follows each event at once;
 * the fleet's log gets each once and in order (event-intake.ts).
 */
import * as v from 'valibot';
import { FairleadError, type JsonObject, toFairleadError } from '../../shared/errors.ts';
import type { JsonRpcPeer } from '../../shared/jsonrpc/peer.ts';
import { Count, Labels, Name, Timestamp } from '../../shared/protocol/common.ts';
import { parseWith } from '../../shared/protocol/parse-with.ts';
import type { EventIntake } from '../events/event-intake.ts';
import type { FleetEvents } from '../events/fleet-events.ts';
import type { HubLogger } from '../logger.ts';
import type { Inventory, ReportedVm } from './inventory.ts';

const MAX_EARLY_EVENTS = 10_000;
const EVENT_PAGE = 256;
/** JSON of an event's data. An agent says 1,000 characters of a message, and little besides. */
const MAX_DATA_LENGTH = 8 * 1024;

/** A name that hosts give: what the hub keeps of them for itself, and shows with others, has a known worst case. */
const Word = v.pipe(v.string(), v.maxLength(64));

/** What is needed of an agent's answers; a newer agent may say more, and knows states and types of events that we do not. */
const ListedVm = v.object({
  name: Name,
  state: v.optional(Word, 'unknown'),
  ready: v.optional(v.boolean(), false),
  generation: v.optional(Count, 0),
  labels: v.optional(Labels, {}),
  uuid: v.optional(Word),
});
const VmPage = v.object({ vms: v.array(ListedVm), next: v.optional(Name) });
const HostEvent = v.object({
  epoch: Word,
  seq: Count,
  time: Timestamp,
  type: Word,
  vm: Name,
  state: Word,
  data: v.record(v.string(), v.unknown()),
});
type HostEvent = v.InferOutput<typeof HostEvent>;
const EventPage = v.object({ epoch: Word, events: v.array(HostEvent), missed: Count, lastSeq: Count });
/** What the inventory needs of an event. */
interface Change extends Pick<HostEvent, 'type' | 'vm' | 'state'> {
  readonly generation: number | undefined;
}

export interface HostFeedOptions {
  readonly host: string;
  readonly peer: JsonRpcPeer;
  readonly inventory: Inventory;
  readonly events: FleetEvents;
  readonly intake: EventIntake;
  readonly logger: HubLogger;
  /** False from the moment a newer session of the host serves. */
  isCurrent(): boolean;
}

export class HostFeed {
  readonly #options: HostFeedOptions;
  /** Events that came while the host's list was on its way; undefined once it is here. */
  #early: Change[] | undefined = [];
  #catchingUp: Promise<void> | undefined;
  #fellBehind = false;
  #warned = false;

  constructor(options: HostFeedOptions) {
    this.#options = options;
  }

  /** Asks for all VMs once, and for what happened since. @throws FairleadError PROTOCOL_ERROR, INTERRUPTED */
  async begin(): Promise<void> {
    const { host, inventory, isCurrent } = this.#options;
    await this.#unlessUseless('list the VMs', async () => {
      const vms = await this.#listVms();
      if (isCurrent() && !inventory.replace(host, vms)) this.#warnOfTooMany(vms.length);
    });
    const early = this.#early ?? [];
    this.#early = undefined;
    for (const change of early) this.#apply(change);
    await this.catchUp();
  }

  /** A notification of the host. What it throws closes the line. */
  onNotification(method: string, params: JsonObject): void {
    if (method !== 'vm.event') return;
    this.#options.intake.requireRate(this.#options.host);
    const event = parseWith(HostEvent, params, 'vm.event', 'PROTOCOL_ERROR');
    if (this.#early === undefined) {
      this.#apply(changeOf(event));
      void this.#take(event);
      return;
    }
    if (this.#early.length >= MAX_EARLY_EVENTS)
      throw new FairleadError('LIMIT_EXCEEDED', 'too many events before the list of VMs');
    this.#early.push(changeOf(event));
  }

  /** Asks for the events between the last one that we have and now. */
  async catchUp(): Promise<void> {
    this.#fellBehind = true;
    this.#catchingUp ??= this.#catchUp();
    await this.#catchingUp;
  }

  async #catchUp(): Promise<void> {
    try {
      while (this.#fellBehind && this.#options.isCurrent()) {
        this.#fellBehind = false;
        await this.#unlessUseless('ask for the events', () => this.#takePages());
      }
    } finally {
      this.#catchingUp = undefined;
    }
  }

  async #takePages(): Promise<void> {
    const { host, intake, events, isCurrent } = this.#options;
    while (isCurrent()) {
      const cursor = intake.cursorOf(host);
      // A host that is new to us begins now: what was before is its own.
      const since = cursor?.seq ?? Number.MAX_SAFE_INTEGER;
      const page = await this.#eventsSince(since, cursor?.epoch);
      if (cursor === undefined) return await intake.startAt(host, { epoch: page.epoch, seq: page.lastSeq });
      const isNewLog = page.epoch !== cursor.epoch;
      if (page.missed > 0 || isNewLog) {
        await events.append(host, [{ type: 'host.events-missed', data: isNewLog ? { lostLog: true } : { count: page.missed } }]);
        const [oldest] = page.events;
        await intake.startAt(host, { epoch: page.epoch, seq: (oldest?.seq ?? page.lastSeq + 1) - 1 });
      }
      if (page.events.length === 0) return;
      if ((await intake.take(host, page.events.map(fleetEvent))) === 'gap') {
        throw new FairleadError('PROTOCOL_ERROR', `vm.events of host ${host} leaves out events after ${since}`);
      }
    }
  }

  async #eventsSince(since: number, epoch: string | undefined): Promise<v.InferOutput<typeof EventPage>> {
    const params = { since, limit: EVENT_PAGE, ...(epoch === undefined ? {} : { epoch }) };
    return parseWith(EventPage, await this.#options.peer.call('vm.events', params), 'vm.events', 'PROTOCOL_ERROR');
  }

  async #take(event: HostEvent): Promise<void> {
    const { host, intake, logger } = this.#options;
    if (this.#catchingUp !== undefined) {
      // It is asked for. Nothing waits with it: the host says how long that takes.
      this.#fellBehind = true;
      return;
    }
    try {
      if ((await intake.take(host, [fleetEvent(event)])) === 'gap') await this.catchUp();
    } catch (thrown) {
      // The next event finds a gap, or the next session does: it is asked for then.
      const { code, message } = toFairleadError(thrown);
      logger.warn({ code }, `could not keep an event of host ${host}: ${message}`);
    }
  }

  #apply({ type, vm, state, generation: told }: Change): void {
    const { inventory, host, isCurrent } = this.#options;
    if (!isCurrent()) return;
    if (type === 'vm.deleted') return inventory.remove(host, vm);
    const known = inventory.get(host, vm);
    const generation = told ?? known?.generation ?? 0;
    const ready = type === 'vm.ready' || (known?.ready === true && known.generation === generation && state === 'running');
    const base = known ?? { name: vm, labels: {} };
    if (!inventory.set(host, { ...base, state, generation, ready })) this.#warnOfTooMany(undefined);
    else if (known?.uuid === undefined) void this.#lookAt(vm);
  }

  /** What an event does not tell: asked for once. */
  async #lookAt(vm: string): Promise<void> {
    const { inventory, host, peer, isCurrent } = this.#options;
    try {
      const { uuid, labels } = parseWith(ListedVm, await peer.call('vm.get', { vm }), 'vm.get', 'PROTOCOL_ERROR');
      const known = inventory.get(host, vm);
      if (known === undefined || !isCurrent()) return;
      inventory.set(host, { ...known, labels, ...(uuid === undefined ? {} : { uuid }) });
    } catch {
      // It is gone again, or the line is: the next list tells.
    }
  }

  async #listVms(): Promise<readonly ReportedVm[]> {
    const { host, peer, inventory } = this.#options;
    const vms: ReportedVm[] = [];
    let after: string | undefined;
    do {
      const params = after === undefined ? {} : { after };
      const page = parseWith(VmPage, await peer.call('vm.list', params), 'vm.list', 'PROTOCOL_ERROR');
      if (page.next !== undefined && after !== undefined && page.next <= after) {
        throw new FairleadError('PROTOCOL_ERROR', `vm.list of host ${host} goes round in circles at ${after}`);
      }
      if (page.next !== undefined && page.vms.length === 0) {
        throw new FairleadError('PROTOCOL_ERROR', `vm.list of host ${host} has no VM on a page that is not the last`);
      }
      vms.push(...page.vms.map(({ uuid, ...vm }) => ({ ...vm, ...(uuid === undefined ? {} : { uuid }) })));
      after = page.next;
    } while (after !== undefined && vms.length <= inventory.maxPerHost);
    return vms;
  }

  /** A host is of use without it: what a broken line or a broken peer causes is thrown, anything else is told. */
  async #unlessUseless(doing: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (thrown) {
      const { code, message } = toFairleadError(thrown);
      if (code === 'PROTOCOL_ERROR' || code === 'INTERRUPTED') throw thrown;
      const { host, logger } = this.#options;
      logger.warn({ code }, `could not ${doing} of host ${host}: ${message}; it is asked again when it connects`);
    }
  }

  /** Once a session: a host can tell of as many as it likes. */
  #warnOfTooMany(vms: number | undefined): void {
    if (this.#warned) return;
    this.#warned = true;
    const { host, logger } = this.#options;
    logger.warn({ vms }, `host ${host} has more VMs than the hub remembers (maxVmsPerHost); calls for some must name the host`);
  }
}

function fleetEvent({ epoch, seq, time, type, vm, state, data }: HostEvent) {
  const { length } = JSON.stringify(data);
  return { type, vm, state, data: length > MAX_DATA_LENGTH ? { omittedLength: length } : data, source: { epoch, seq, time } };
}

function changeOf({ type, vm, state, data: { generation } }: HostEvent): Change {
  return { type, vm, state, generation: v.is(Count, generation) ? generation : undefined };
}
