/** The hub's inventory, its fleet, and what its audit log shows of params. */
import { describe, expect, it } from 'vitest';
import { describeParams } from '../../hub/rpc/audit.ts';
import { Fleet, type FleetSession } from '../../hub/sessions/fleet.ts';
import { Inventory, type ReportedVm } from '../../hub/sessions/inventory.ts';
import { openSqliteStore } from '../../hub/store/sqlite-store.ts';

class FakeSession implements FleetSession {
  readonly host: string;
  readonly epoch: number;
  supersededBy: number | undefined;

  constructor(host: string, epoch: number) {
    this.host = host;
    this.epoch = epoch;
  }

  supersede(byEpoch: number): void {
    this.supersededBy = byEpoch;
  }
}

const fleet = () => new Fleet<FakeSession>({ store: openSqliteStore(':memory:'), inventory: new Inventory(10) });

const vm = (name: string): ReportedVm => ({ name, state: 'running', ready: false, generation: 1, labels: {} });

describe('the inventory', () => {
  it('knows which hosts have a VM of a name', () => {
    const inventory = new Inventory(10);
    inventory.replace('h2', [vm('web'), vm('db')]);
    inventory.set('h1', vm('web'));
    expect([inventory.hostsOf('web'), inventory.hostsOf('db'), inventory.hostsOf('x')]).toEqual([['h1', 'h2'], ['h2'], []]);
    inventory.remove('h2', 'web');
    inventory.remove('h2', 'never-there');
    expect(inventory.hostsOf('web')).toEqual(['h1']);
    inventory.replace('h2', [vm('cache')]);
    expect([inventory.hostsOf('db'), inventory.hostsOf('cache')]).toEqual([[], ['h2']]);
    inventory.forget('h2');
    expect(inventory.hostsOf('cache')).toEqual([]);
  });

  it('remembers only so many VMs of one host, and says so', () => {
    const inventory = new Inventory(2);
    expect(inventory.replace('h1', [vm('a'), vm('b'), vm('c')])).toBe(false);
    expect([inventory.set('h1', vm('a')), inventory.set('h1', vm('c')), inventory.set('h2', vm('c'))]).toEqual([
      true,
      false,
      true,
    ]);
    inventory.remove('h1', 'a');
    expect(inventory.set('h1', vm('c'))).toBe(true);
  });
});

describe('the fleet', () => {
  it('keeps the session with the highest epoch, in whatever order they come', () => {
    const hosts = fleet();
    const [first, second, third] = [1, 2, 3].map((epoch) => new FakeSession('h1', epoch));
    if (first === undefined || second === undefined || third === undefined) throw new Error('three sessions');
    expect(hosts.add(first)).toBe(true);
    expect(hosts.add(third)).toBe(true);
    expect(hosts.add(second)).toBe(false);
    expect([first.supersededBy, second.supersededBy, third.supersededBy]).toEqual([3, 3, undefined]);
    hosts.remove(first);
    expect(hosts.get('h1')).toBe(third);
    hosts.remove(third);
    expect(hosts.size).toBe(0);
  });

  it('names some hosts, not ten thousand, in the error that asks for one', () => {
    const hosts = fleet();
    for (let index = 0; index < 50; index++) hosts.add(new FakeSession(`host-${index}`, 1));
    expect(() => hosts.locate(undefined, {})).toThrow(/50 hosts are connected: host-0, .* and 40 more$/);
  });
});

describe('params in the audit log', () => {
  it('show no secret and no novel', () => {
    const text = describeParams({ token: 'fle_1', nested: { password: 'x' }, vm: 'web', args: 'y'.repeat(1000) });
    expect(text).not.toContain('fle_1');
    expect(text).not.toContain('"x"');
    expect(text).toContain('"vm":"web"');
    expect(text.length).toBeLessThan(600);
  });
});
