/** The fleet's events and the audit: one sequence that outlives the hub, each event of a host once, bounded, and honest about what is gone. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { AuditBook, type NewAuditEntry } from '../../hub/events/audit-book.ts';
import { EventIntake } from '../../hub/events/event-intake.ts';
import { FleetEvents } from '../../hub/events/fleet-events.ts';
import { openSqliteStore } from '../../hub/store/sqlite-store.ts';
import type { FleetEvent } from '../../shared/protocol/fleet-events.ts';
import { FakeClock } from '../support/fake-clock.ts';

const event = (type: string, seq?: number, epoch = 'e') => ({
  type,
  vm: 'web',
  state: 'running',
  data: {},
  source: { epoch, seq: seq ?? 0, time: '2030-01-01T00:00:00.000Z' },
});

const types = (events: readonly FleetEvent[]) => events.map(({ type }) => type);

async function collect(events: AsyncIterable<FleetEvent>, count: number): Promise<FleetEvent[]> {
  const seen: FleetEvent[] = [];
  for await (const one of events) if (seen.push(one) === count) break;
  return seen;
}

describe('the events of the fleet', () => {
  it('have one sequence over all hosts, from which a watcher goes on after a restart', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'hub-events-'));
    const path = join(directory, 'hub.db');
    const first = openSqliteStore(path);
    const before = await FleetEvents.open({ store: first, maxEvents: 1000 });
    await Promise.all([
      before.append('h1', [event('vm.started'), event('vm.ready')]),
      before.append('h2', [event('vm.started')]),
    ]);
    await first.close();
    const store = openSqliteStore(path);
    const events = await FleetEvents.open({ store, maxEvents: 1000 });
    const end = new AbortController();
    const watched = collect(events.follow(1, {}, end.signal), 3);
    await events.append('h1', [event('vm.stopped')]);
    expect((await watched).map(({ seq, host, type }) => [seq, host, type])).toEqual([
      [2, 'h1', 'vm.ready'],
      [3, 'h2', 'vm.started'],
      [4, 'h1', 'vm.stopped'],
    ]);
    await store.close();
    await rm(directory, { recursive: true });
  });

  it('are told to each watcher once and in order, however far behind it is', async () => {
    const store = openSqliteStore(':memory:');
    const events = await FleetEvents.open({ store, maxEvents: 100_000 });
    const end = new AbortController();
    const total = 12_000;
    const fast = collect(events.follow(0, {}, end.signal), total);
    for (let done = 0; done < total; done += 500) {
      await events.append(
        'h1',
        Array.from({ length: 500 }, () => event('vm.reset')),
      );
    }
    const late = collect(events.follow(0, {}, end.signal), total);
    const inOrder = Array.from({ length: total }, (_, index) => index + 1);
    expect((await fast).map(({ seq }) => seq)).toEqual(inOrder);
    expect((await late).map(({ seq }) => seq)).toEqual(inOrder);
    await store.close();
  });

  it('end with the signal of their watcher', async () => {
    const store = openSqliteStore(':memory:');
    const events = await FleetEvents.open({ store, maxEvents: 1000 });
    const end = new AbortController();
    const watched = collect(events.follow(0, {}, end.signal), 1);
    end.abort();
    expect(await watched).toEqual([]);
    await store.close();
  });

  it('are forgotten from the oldest on, and a watcher is told how many it missed', async () => {
    const store = openSqliteStore(':memory:');
    const events = await FleetEvents.open({ store, maxEvents: 100 });
    for (let done = 0; done < 300; done += 1) await events.append('h1', [event('vm.reset')]);
    // One that was just started has none of them in memory.
    const page = await (await FleetEvents.open({ store, maxEvents: 100 })).query({ since: 10, limit: 1000 });
    expect(page.missed).toBeGreaterThan(150);
    expect(page.events[0]?.seq).toBe(10 + page.missed + 1);
    expect(page.lastSeq).toBe(300);
    await store.close();
  });

  it('are found by host, VM and the beginning of their type', async () => {
    const store = openSqliteStore(':memory:');
    const events = await FleetEvents.open({ store, maxEvents: 1000 });
    await events.append('h1', [{ type: 'host.connected', data: {} }, event('vm.started')]);
    await events.append('h2', [event('vm.started')]);
    const find = async (filter: object) => (await events.query({ limit: 10, ...filter })).events;
    expect(types(await find({ types: ['host.'] }))).toEqual(['host.connected']);
    expect((await find({ host: 'h2' })).map(({ seq }) => seq)).toEqual([3]);
    expect((await find({ vm: 'web', host: 'h1' })).map(({ seq }) => seq)).toEqual([2]);
    await store.close();
  });
});

describe("a host's events", () => {
  async function intakeOf(store = openSqliteStore(':memory:')) {
    const events = await FleetEvents.open({ store, maxEvents: 1000 });
    return { store, events, intake: await EventIntake.open(store, events) };
  }

  it('are taken once each, and those that come too early are not', async () => {
    const { store, events, intake } = await intakeOf();
    await intake.startAt('h1', { epoch: 'e', seq: 4 });
    expect(await intake.take('h1', [event('vm.started', 5), event('vm.ready', 6)])).toBe('taken');
    expect(await intake.take('h1', [event('vm.ready', 6), event('vm.paused', 7)])).toBe('taken');
    expect(await intake.take('h1', [event('vm.stopped', 9)])).toBe('gap');
    expect(await intake.take('h1', [event('vm.resumed', 8), event('vm.stopped', 9)])).toBe('taken');
    expect(await intake.take('h1', [event('vm.created', 10, 'another log')])).toBe('gap');
    expect(types((await events.query({ limit: 100 })).events)).toEqual([
      'vm.started',
      'vm.ready',
      'vm.paused',
      'vm.resumed',
      'vm.stopped',
    ]);
    await store.close();
  });

  it('go on after a restart of the hub where they were', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'hub-events-'));
    const first = await intakeOf(openSqliteStore(join(directory, 'hub.db')));
    await first.intake.startAt('h1', { epoch: 'e', seq: 0 });
    await first.intake.take('h1', [event('vm.started', 1)]);
    await first.store.close();
    const second = await intakeOf(openSqliteStore(join(directory, 'hub.db')));
    expect(second.intake.cursorOf('h1')).toEqual({ epoch: 'e', seq: 1 });
    await second.store.close();
    await rm(directory, { recursive: true });
  });
});

describe('the audit', () => {
  const entry = (method: string, more: Partial<NewAuditEntry> = {}): NewAuditEntry => ({
    actor: 't1',
    method,
    code: 'OK',
    durationMs: 1,
    params: '{}',
    ...more,
  });

  it('has what changed something at once, and what only read after a second at the latest', async () => {
    const store = openSqliteStore(':memory:');
    const clock = new FakeClock();
    const book = new AuditBook({ store, clock, maxEntries: 1000, onFault: () => {} });
    book.read(() => entry('vm.get'));
    await book.changed(entry('vm.stop'));
    clock.advance(1000);
    book.read(() => entry('vm.list', { actor: 't2' }));
    const { entries } = await book.list({ since: 0, limit: 10 });
    expect(entries.map(({ seq, actor, method }) => [seq, actor, method])).toEqual([
      [1, 't1', 'vm.stop'],
      [2, 't1', 'vm.get'],
      [3, 't2', 'vm.list'],
    ]);
    const { entries: found } = await book.list({ since: 1, limit: 10, actor: 't1' });
    expect(found.map(({ method }) => method)).toEqual(['vm.get']);
    await store.close();
  });

  it('forgets the oldest beyond its bound', async () => {
    const store = openSqliteStore(':memory:');
    const book = new AuditBook({ store, clock: new FakeClock(), maxEntries: 50, onFault: () => {} });
    for (let count = 0; count < 120; count++) await book.changed(entry('vm.stop'));
    const { entries, missed } = await book.list({ since: 0, limit: 1000 });
    expect(entries.length).toBeLessThanOrEqual(52);
    expect(missed + entries.length).toBe(120);
    await store.close();
  });
});
