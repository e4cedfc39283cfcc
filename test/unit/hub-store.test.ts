/** The hub's store: compare-and-set records that outlive the process, and a file that only its owner can read. */
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, expect, it } from 'vitest';
import { HOSTS, type HostState, META } from '../../hub/store/records.ts';
import { openSqliteStore } from '../../hub/store/sqlite-store.ts';
import { getOrCreate } from '../../hub/store/store.ts';

const HOST: HostState = { host: 'h1', publicKey: 'k', labels: {}, enrolledAtMs: 1, enrolledWith: 't', epoch: 0 };

async function temporaryDirectory() {
  const path = await mkdtemp(join(tmpdir(), 'hub-store-'));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true }) };
}

describe('the hub store', () => {
  it('creates a record once and reads it back', async () => {
    const store = openSqliteStore(':memory:');
    expect(await store.collection(HOSTS).create('h1', HOST)).toBe(true);
    expect(await store.collection(HOSTS).create('h1', { ...HOST, publicKey: 'other' })).toBe(false);
    expect((await store.collection(HOSTS).get('h1'))?.value).toEqual(HOST);
    expect((await store.collection(HOSTS).list()).map((stored) => stored.value.host)).toEqual(['h1']);
    await store.close();
  });

  it('writes only on the revision that was read', async () => {
    const store = openSqliteStore(':memory:');
    await store.collection(HOSTS).create('h1', HOST);
    const revision = (await store.collection(HOSTS).get('h1'))?.revision ?? -1;
    expect(await store.collection(HOSTS).update('h1', { ...HOST, epoch: 1 }, revision)).toBe(true);
    expect(await store.collection(HOSTS).update('h1', { ...HOST, epoch: 9 }, revision)).toBe(false);
    expect(await store.collection(HOSTS).remove('h1', revision)).toBe(false);
    expect((await store.collection(HOSTS).get('h1'))?.value.epoch).toBe(1);
    await store.close();
  });

  it('does not take a record made anew for the one that was removed', async () => {
    const store = openSqliteStore(':memory:');
    await store.collection(HOSTS).create('h1', HOST);
    const old = (await store.collection(HOSTS).get('h1'))?.revision ?? -1;
    await store.collection(HOSTS).remove('h1', old);
    await store.collection(HOSTS).create('h1', HOST);
    expect(await store.collection(HOSTS).update('h1', { ...HOST, epoch: 7 }, old)).toBe(false);
    await store.close();
  });

  it('loses no change when many modify one record at once', async () => {
    const store = openSqliteStore(':memory:');
    await store.collection(HOSTS).create('h1', HOST);
    const rises = Array.from({ length: 500 }, () =>
      store.collection(HOSTS).modify('h1', (host) => ({ ...host, epoch: host.epoch + 1 })),
    );
    const epochs = (await Promise.all(rises)).map((host) => host?.epoch ?? 0);
    expect(new Set(epochs).size).toBe(500);
    expect((await store.collection(HOSTS).get('h1'))?.value.epoch).toBe(500);
    await store.close();
  });

  it('does not let a change that throws spoil the others of its commit', async () => {
    const store = openSqliteStore(':memory:');
    await store.collection(HOSTS).create('h1', HOST);
    const refuse = () => {
      throw new Error('not this one');
    };
    const outcomes = await Promise.allSettled([
      store.collection(HOSTS).modify('h1', (host) => ({ ...host, epoch: 5 })),
      store.collection(HOSTS).modify('h1', refuse),
      store.collection(HOSTS).modify('h1', () => undefined),
      store.collection(HOSTS).modify('h9', (host) => host),
      store.collection(HOSTS).modify('h1', (host) => ({ ...host, epoch: host.epoch + 1 })),
    ]);
    expect(outcomes.map((outcome) => outcome.status)).toEqual(['fulfilled', 'rejected', 'fulfilled', 'fulfilled', 'fulfilled']);
    expect((await store.collection(HOSTS).get('h1'))?.value.epoch).toBe(6);
    await store.close();
  });

  it('gives all who make the same fact at once the same one', async () => {
    const store = openSqliteStore(':memory:');
    const values = await Promise.all(['a', 'b', 'c'].map((value) => getOrCreate(store.collection(META), 'hubId', () => value)));
    expect(new Set(values).size).toBe(1);
    await store.close();
  });

  it('keeps records over a restart, in a file of mode 0600', async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, 'hub.db');
    const first = openSqliteStore(path);
    await first.collection(HOSTS).create('h1', HOST);
    await first.close();
    const second = openSqliteStore(path);
    expect((await second.collection(HOSTS).get('h1'))?.value).toEqual(HOST);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    await second.close();
  });

  it('refuses a file that another hub has open', async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, 'hub.db');
    const first = openSqliteStore(path);
    expect(() => openSqliteStore(path, { busyTimeoutMs: 1 })).toThrow(expect.objectContaining({ code: 'CONFLICT' }));
    await first.close();
  });

  it('refuses a file that a newer hub wrote', async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, 'hub.db');
    const database = new DatabaseSync(path);
    database.exec('PRAGMA user_version = 999');
    database.close();
    expect(() => openSqliteStore(path)).toThrow(expect.objectContaining({ code: 'UNSUPPORTED' }));
  });

  it('says which record is damaged', async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, 'hub.db');
    await openSqliteStore(path).close();
    const database = new DatabaseSync(path);
    database.exec(`INSERT INTO hosts VALUES ('h1', '{"host":1}', 1)`);
    database.close();
    const store = openSqliteStore(path);
    await expect(store.collection(HOSTS).get('h1')).rejects.toThrow('record h1 of hosts');
    await store.close();
  });

  it('refuses to write once it is closed', async () => {
    const store = openSqliteStore(':memory:');
    const hosts = store.collection(HOSTS);
    await store.close();
    await expect(hosts.create('h1', HOST)).rejects.toThrow('closed');
  });
});
