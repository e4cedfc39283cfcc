import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { EventHub } from '../../agent/qmp/events.ts';
import type { QmpEvent } from '../../agent/qmp/messages.ts';

const event = (name: string, data: Record<string, unknown> = {}): QmpEvent => ({
  name,
  data,
  timestamp: { seconds: 1, microseconds: 2 },
});

function hubWithLog() {
  const warnings: string[] = [];
  const logger = { debug: () => {}, warn: (_fields: object, message: string) => void warnings.push(message) };
  const hub = new EventHub('test.sock', logger);
  hub.forgetEarly();
  return { hub, warnings };
}

async function namesOf(events: AsyncIterable<QmpEvent>): Promise<string[]> {
  const names: string[] = [];
  for await (const { name } of events) names.push(name);
  return names;
}

describe('a listener', () => {
  test('gets the events after it was made, in order, and ends with the session', async () => {
    const { hub } = hubWithLog();
    hub.publish(event('BEFORE'));
    using listener = hub.listen({});
    hub.publish(event('STOP'));
    hub.publish(event('RESUME'));
    hub.end();
    expect(await namesOf(listener)).toEqual(['STOP', 'RESUME']);
  });

  test('filters by name and by predicate', async () => {
    const { hub } = hubWithLog();
    using byName = hub.listen({ names: ['STOP'] });
    using byData = hub.listen({ names: ['DEVICE_DELETED'], where: ({ data }) => data['device'] === 'net0' });
    for (const each of [event('STOP'), event('DEVICE_DELETED', { path: '/x' }), event('DEVICE_DELETED', { device: 'net0' })])
      hub.publish(each);
    hub.end();
    expect(await namesOf(byName)).toEqual(['STOP']);
    expect(await byData.take()).toMatchObject({ data: { device: 'net0' } });
    await expect(byData.take()).rejects.toMatchObject({ code: 'INTERRUPTED' });
  });

  test('whose predicate throws ends with what was thrown, and disturbs no other', async () => {
    const { hub } = hubWithLog();
    using broken = hub.listen({
      where: () => {
        throw new Error('bad predicate');
      },
    });
    using sound = hub.listen({});
    hub.publish(event('STOP'));
    await expect(broken.take()).rejects.toMatchObject({ code: 'INTERNAL', message: 'bad predicate' });
    expect(await sound.take()).toMatchObject({ name: 'STOP' });
  });

  test('that is too slow loses its oldest events, counts them and says so once', async () => {
    const { hub, warnings } = hubWithLog();
    using slow = hub.listen({ capacity: 2 });
    using other = hub.listen({});
    for (const name of ['A', 'B', 'C', 'D', 'E']) hub.publish(event(name));
    expect(slow.dropped).toBe(3);
    expect(other.dropped).toBe(0);
    expect(warnings).toEqual(['a listener is too slow: dropping its oldest events']);
    expect((await slow.take()).name).toBe('D');
    expect((await slow.take()).name).toBe('E');

    for (const name of ['F', 'G', 'H']) hub.publish(event(name));
    expect(warnings).toHaveLength(2);
    hub.end();
    expect(await namesOf(slow)).toEqual(['G', 'H']);
    expect(slow.dropped).toBe(4);
  });

  test('outlives a loop that is left early, and ends with its scope', async () => {
    const { hub } = hubWithLog();
    const listener = hub.listen({});
    for (const name of ['A', 'B']) hub.publish(event(name));
    for await (const { name } of listener) if (name === 'A') break;
    expect((await listener.take()).name).toBe('B');
    const pending = listener.take();
    listener[Symbol.dispose]();
    await expect(pending).rejects.toMatchObject({ code: 'INTERRUPTED' });
    hub.publish(event('C'));
    expect(await namesOf(listener)).toEqual([]);
  });

  test('made after the session ended is at its end', async () => {
    const { hub } = hubWithLog();
    hub.end();
    using listener = hub.listen({});
    expect(await namesOf(listener)).toEqual([]);
  });

  test('shares its events among several readers, first come first served', async () => {
    const { hub } = hubWithLog();
    using listener = hub.listen({});
    const readers = [listener.take(), listener.take()];
    hub.publish(event('A'));
    hub.publish(event('B'));
    expect((await Promise.all(readers)).map(({ name }) => name)).toEqual(['A', 'B']);
  });

  test('made in the turn of the set-up gets what came before it; a later one does not', async () => {
    const hub = new EventHub('test.sock', undefined);
    hub.publish(event('STOP'));
    using early = hub.listen({});
    hub.forgetEarly();
    using late = hub.listen({});
    hub.end();
    expect(await namesOf(early)).toEqual(['STOP']);
    expect(await namesOf(late)).toEqual([]);
  });
});

describe('taking one event', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  test('times out and names what it waited for; the next event goes to the next reader', async () => {
    const { hub } = hubWithLog();
    using listener = hub.listen({ names: ['STOP', 'RESUME'] });
    const waiting = listener.take({ timeoutMs: 50 });
    vi.advanceTimersByTime(50);
    hub.publish(event('STOP'));
    await expect(waiting).rejects.toMatchObject({
      code: 'TIMEOUT',
      message: 'no STOP or RESUME event on QMP socket test.sock within 50 ms',
    });
    expect((await listener.take()).name).toBe('STOP');
    expect(vi.getTimerCount()).toBe(0);
  });

  test('is cancelled by its signal, before and while it waits', async () => {
    const { hub } = hubWithLog();
    using listener = hub.listen({});
    const controller = new AbortController();
    const waiting = listener.take({ signal: controller.signal });
    controller.abort(new Error('enough'));
    await expect(waiting).rejects.toMatchObject({ code: 'CANCELLED', cause: controller.signal.reason });
    hub.publish(event('STOP'));
    await expect(listener.take({ signal: controller.signal })).rejects.toMatchObject({ code: 'CANCELLED' });
    expect((await listener.take()).name).toBe('STOP');
  });
});
