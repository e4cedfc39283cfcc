/** A host that was drained and then removed counted as away for good, also when it had enrolled anew: a rollout over it waited for ever. */
import { describe, expect, it } from 'vitest';
import { createLocalBus } from '../../hub/bus.ts';
import { Availability } from '../../hub/rollout/availability.ts';
import { ClaimsOfPeople } from '../../hub/rollout/claims-of-people.ts';
import { type FleetServices, fleetHandlers } from '../../hub/rpc/handlers/fleet.ts';
import { HOSTS } from '../../hub/store/records.ts';
import { openSqliteStore } from '../../hub/store/sqlite-store.ts';
import { quiet } from '../support/rollout-fleet.ts';

describe('a host that was drained and is removed', () => {
  it('counts as away no more', async () => {
    const store = openSqliteStore(':memory:');
    const cordoned = { reason: '', by: 'alice', atMs: 0, drained: true };
    const drained = { host: 'h1', publicKey: 'k', labels: {}, enrolledAtMs: 0, enrolledWith: '', epoch: 0, cordoned };
    await store.collection(HOSTS).create('h1', drained);
    const changed = Promise.withResolvers<string>();
    const bus = createLocalBus(quiet);
    const availability = new Availability();
    const onFault = changed.reject;
    using claims = new ClaimsOfPeople({ store, bus, availability, onFault, onChange: changed.resolve });
    await claims.load();
    expect(await changed.promise).toBe('h1');
    expect(availability.isUnavailable('h1')).toBe(true);

    const services = { store, bus, events: { append: async () => {} }, disconnectHost: () => {} };
    // SAFETY: removing a host needs no more of them.
    const handlers = fleetHandlers(services as unknown as FleetServices);
    // SAFETY: nor of the call.
    await handlers['host.remove']({ host: 'h1' }, undefined as never);
    await expect.poll(() => availability.isUnavailable('h1')).toBe(false);
  });
});
