/** What the hub gives its hosts when numbers do not fit: after a backup, and where a clock was set back. */
import * as v from 'valibot';
import { expect, it, onTestFinished } from 'vitest';
import { createLocalBus } from '../../hub/bus.ts';
import { DesiredFleet } from '../../hub/desired/desired-fleet.ts';
import type { HubLogger } from '../../hub/logger.ts';
import { Inventory } from '../../hub/sessions/inventory.ts';
import { HOSTS } from '../../hub/store/records.ts';
import { openSqliteStore } from '../../hub/store/sqlite-store.ts';
import { FairleadError, type JsonObject } from '../../shared/errors.ts';
import type { JsonRpcPeer } from '../../shared/jsonrpc/peer.ts';
import { FleetDocument } from '../../shared/protocol/methods-desired.ts';
import { silent } from '../support/vm.ts';

const logger: HubLogger = { ...silent, child: () => logger };
const DOCUMENT = v.parse(FleetDocument, { name: 'tier', vms: [{ spec: { name: 'web' } }] });

/** A store with one host, which obeys the highest generation as an agent does, and hubs on that store. */
async function oneHost() {
  const store = openSqliteStore(':memory:');
  onTestFinished(() => store.close());
  await store.collection(HOSTS).create('h1', {
    host: 'h1',
    publicKey: 'k',
    labels: {},
    enrolledAtMs: 0,
    enrolledWith: 't',
    epoch: 1,
  });
  const given: number[] = [];
  const has = { generation: 0 };
  const call = async (_method: string, { generation }: JsonObject): Promise<JsonObject> => {
    given.push(Number(generation));
    if (Number(generation) <= has.generation)
      throw new FairleadError('CONFLICT', 'an older one', { details: { generation: has.generation } });
    has.generation = Number(generation);
    return { generation: has.generation };
  };
  // SAFETY: nothing else of a peer is used here.
  const peer = { call } as unknown as JsonRpcPeer;
  const clock = { nowMs: 1_000_000 };
  const hub = (eventEpoch: string): DesiredFleet => {
    const fleet = new DesiredFleet({
      store,
      eventEpoch,
      inventory: new Inventory(10),
      bus: createLocalBus(logger),
      images: { resolvedSpec: async (spec) => spec },
      peerOf: () => peer,
      now: () => clock.nowMs,
      logger,
    });
    onTestFinished(() => fleet[Symbol.dispose]());
    return fleet;
  };
  return { hub, given, has, clock };
}

it('a hub that began from a backup gives a host its state anew, once', async () => {
  const { hub, given, has, clock } = await oneHost();
  const first = hub('first');
  await first.apply({ document: DOCUMENT, dryRun: false }, 'alice');
  const acknowledged = async () => (await first.get('tier')).hosts.map((row) => row.acknowledged);
  await expect.poll(acknowledged).toEqual([clock.nowMs]);
  await hub('first').give('h1');
  expect(given).toHaveLength(1);
  // What the host was given since by the history that is gone.
  has.generation = clock.nowMs + 500;
  clock.nowMs += 1_000;
  const restored = hub('second');
  await restored.give('h1');
  await restored.give('h1');
  expect(given).toEqual([1_000_000, clock.nowMs]);
});

it('a host that has a later generation than its hub numbers is given one beyond that', async () => {
  const { hub, given, has, clock } = await oneHost();
  has.generation = clock.nowMs + 3_600_000;
  const fleet = hub('first');
  await fleet.apply({ document: DOCUMENT, dryRun: false }, 'alice');
  // That it was given it is told a moment later.
  const acknowledged = async () => (await fleet.get('tier')).hosts.map((row) => row.acknowledged);
  await expect.poll(acknowledged, { timeout: 30_000 }).toEqual([clock.nowMs + 3_600_001]);
  expect(given).toEqual([clock.nowMs, clock.nowMs + 3_600_001]);
  await fleet.give('h1');
  expect(given).toHaveLength(2);
});
