/** Leases with fencing epochs, logs, and the bus: what rollouts and images stand on. */
import * as v from 'valibot';
import { describe, expect, it } from 'vitest';
import { createLocalBus } from '../../hub/bus.ts';
import type { HubLogger } from '../../hub/logger.ts';
import { Leases } from '../../hub/store/lease.ts';
import { openSqliteStore } from '../../hub/store/sqlite-store.ts';
import { defineCollection, defineLog } from '../../hub/store/store.ts';
import { silent } from '../support/vm.ts';

const LOGGER: HubLogger = { ...silent, child: () => LOGGER };

describe('a lease', () => {
  function hubs() {
    const store = openSqliteStore(':memory:');
    const time = { ms: 1_000_000 };
    const of = (hubId: string, bootId: string) => new Leases({ store, hubId, bootId, ttlMs: 1000, now: () => time.ms });
    return { store, time, of };
  }

  it('is held by one at a time, and each holder has a higher epoch', async () => {
    const { store, time, of } = hubs();
    const [one, other] = [of('a', 'a1'), of('b', 'b1')];
    expect(await one.take('r')).toBe(1);
    expect(await other.take('r')).toBeUndefined();
    time.ms += 900;
    expect(await one.renew('r', 1)).toBe(true);
    time.ms += 900;
    expect(await other.take('r')).toBeUndefined();
    time.ms += 101;
    expect(await other.take('r')).toBe(2);
    expect(await one.renew('r', 1)).toBe(false);
    await one.release('r', 1);
    expect(await one.take('r')).toBeUndefined();
    await other.release('r', 2);
    expect(await one.take('r')).toBe(3);
    await store.close();
  });

  it('is not renewed once its time was over, though nobody took it', async () => {
    const { store, time, of } = hubs();
    const leases = of('a', 'a1');
    await leases.take('r');
    time.ms += 1001;
    expect(await leases.renew('r', 1)).toBe(false);
    await store.close();
  });

  it('of an earlier life of the same hub is taken at once, and of many that try one gets it', async () => {
    const { store, of } = hubs();
    await of('a', 'a1').take('r');
    expect(await of('a', 'a2').take('r')).toBe(2);
    const taken = await Promise.all(['b', 'c', 'd'].map((hub) => of(hub, 'x').take('s')));
    expect(taken.filter((epoch) => epoch !== undefined)).toEqual([1]);
    await store.close();
  });
});

describe('a log', () => {
  const LOG = defineLog('rollout_log', v.number());

  it('is read back in order, by subject and page by page, and forgets what it is told to', async () => {
    const store = openSqliteStore(':memory:', { now: () => 5 });
    const log = store.log(LOG);
    const lasts = await Promise.all([log.append('a', [1, 2]), log.append('b', [3]), log.append('a', [4])]);
    expect(lasts).toEqual([2, 3, 4]);
    expect((await log.read({ subject: 'a' })).map(({ seq, value, atMs }) => [seq, value, atMs])).toEqual([
      [1, 1, 5],
      [2, 2, 5],
      [4, 4, 5],
    ]);
    expect((await log.read({ after: 1, limit: 2 })).map(({ value }) => value)).toEqual([2, 3]);
    expect(await log.bounds()).toEqual({ forgotten: 0, last: 4 });
    await log.trim(2);
    expect(await log.bounds()).toEqual({ forgotten: 2, last: 4 });
    await log.forget('a');
    await log.trim(9);
    expect(await log.append('a', [5])).toBe(5);
    expect(await log.bounds()).toEqual({ forgotten: 4, last: 5 });
    await store.close();
  });

  it('takes no entry that could not be read back, and none of those beside it', async () => {
    const store = openSqliteStore(':memory:');
    const log = store.log(LOG);
    // SAFETY: that this is wrong is what the test is about.
    await expect(log.append('a', [1, 'two' as unknown as number])).rejects.toThrow('was not written');
    expect(await log.read()).toEqual([]);
    expect(await log.append('a', [1])).toBe(1);
    await store.close();
  });
});

describe('a collection', () => {
  const TAGS = defineCollection('tags', v.string());

  it('lists a range of keys', async () => {
    const store = openSqliteStore(':memory:');
    const tags = store.collection(TAGS);
    await Promise.all(['a/1', 'a/2', 'ab/1', 'b/1'].map((key) => tags.put(key, key)));
    const list = async (range: object) => (await tags.list(range)).map(({ value }) => value);
    expect(await list({ prefix: 'a/' })).toEqual(['a/1', 'a/2']);
    expect(await list({ after: 'a/1', limit: 2 })).toEqual(['a/2', 'ab/1']);
    await tags.discard('a/1');
    await tags.discard('never-there');
    expect(await list({})).toEqual(['a/2', 'ab/1', 'b/1']);
    await store.close();
  });

  it('decides on writes that are on their way as if they were there', async () => {
    const store = openSqliteStore(':memory:');
    const tags = store.collection(TAGS);
    const outcomes = await Promise.all([
      tags.create('k', 'one'),
      tags.create('k', 'two'),
      tags.modify('k', (value) => `${value}+`),
      tags.discard('k'),
      tags.create('k', 'three'),
    ]);
    expect(outcomes).toEqual([true, false, 'one+', undefined, true]);
    expect((await tags.get('k'))?.value).toBe('three');
    await store.close();
  });

  it('has one definition a table', async () => {
    const store = openSqliteStore(':memory:');
    expect(store.collection(TAGS)).toBe(store.collection(TAGS));
    expect(() => store.collection(defineCollection('tags', v.number()))).toThrow('defined twice');
    await store.close();
  });
});

describe('the bus', () => {
  it('tells every listener in order until it is disposed of, whatever another one throws', () => {
    const bus = createLocalBus(LOGGER);
    const heard: string[] = [];
    using _failing = bus.subscribe('host.changed', () => {
      throw new Error('a listener that fails');
    });
    {
      using _listening = bus.subscribe('host.changed', ({ host }) => heard.push(host));
      bus.publish('host.changed', { host: 'h1' });
      bus.publish('host.changed', { host: 'h2' });
    }
    bus.publish('host.changed', { host: 'h3' });
    expect(heard).toEqual(['h1', 'h2']);
  });
});
