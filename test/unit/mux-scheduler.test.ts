import { describe, expect, test } from 'vitest';
import { SCHEDULER_QUANTUM_BYTES } from '../../shared/mux/limits.ts';
import { type Schedulable, Scheduler, UNSCHEDULED } from '../../shared/mux/scheduler.ts';

const FRAME_BYTES = 16 * 1024;

class Source implements Schedulable<Source> {
  readonly name: string;
  readonly schedule: Schedulable<Source>['schedule'] = { ...UNSCHEDULED };
  queuedBytes = 0;
  sentBytes = 0;

  constructor(name: string) {
    this.name = name;
  }

  get sendable(): boolean {
    return this.queuedBytes > 0;
  }
}

/** Streams that send whatever they have when it is their turn, a frame at a time. */
function line(count: number) {
  const scheduler = new Scheduler<Source>();
  const give = (source: Source, bytes: number): void => {
    source.queuedBytes += bytes;
    scheduler.activate(source);
  };
  const bulk = Array.from({ length: count }, (_, index) => new Source(`bulk${index}`));
  for (const source of bulk) give(source, Number.MAX_SAFE_INTEGER / 2);
  const send = (): Source | undefined => {
    const source = scheduler.next();
    if (source === undefined) return undefined;
    const bytes = Math.min(source.queuedBytes, FRAME_BYTES);
    source.queuedBytes -= bytes;
    source.sentBytes += bytes;
    scheduler.charge(source, bytes);
    return source;
  };
  return { scheduler, bulk, give, send };
}

describe('the scheduler', () => {
  test.each([1, 2, 7, 63, 64, 65, 200])(
    'lets a key press pass 64 bulk streams at once, %i frames after the one before',
    (between) => {
      const { give, send } = line(64);
      const keys = new Source('keys');
      // Bulk streams were new once as well.
      for (let frame = 0; frame < 64; frame++) send();
      for (let press = 0; press < 20; press++) {
        for (let frame = 0; frame < between; frame++) send();
        give(keys, 100);
        expect(send()).toBe(keys);
      }
    },
  );

  test.each([1, 100, FRAME_BYTES - 1, FRAME_BYTES])(
    'gives a stream that has %i bytes after every frame no more than its share',
    (bytes) => {
      const { bulk, give, send } = line(4);
      const greedy = new Source('greedy');
      for (let frame = 0; frame < 5_000; frame++) {
        if (greedy.queuedBytes === 0) give(greedy, bytes);
        send();
      }
      const shares = bulk.map(({ sentBytes }) => sentBytes);
      expect(Math.max(...shares) - Math.min(...shares)).toBeLessThanOrEqual(SCHEDULER_QUANTUM_BYTES);
      // A frame may begin with the last byte of a quantum.
      expect(greedy.sentBytes).toBeLessThanOrEqual(Math.max(...shares) + 2 * SCHEDULER_QUANTUM_BYTES);
    },
  );

  test('keeps nobody waiting behind streams that are new all the time', () => {
    const { bulk, give, send } = line(1);
    const sparse = Array.from({ length: 16 }, (_, index) => new Source(`sparse${index}`));
    for (let frame = 0; frame < 20_000; frame++) {
      for (const source of sparse) if (source.queuedBytes === 0) give(source, 1_000);
      send();
    }
    const all = [...bulk, ...sparse].map(({ sentBytes }) => sentBytes);
    const fairest = Math.min(...all);
    expect(bulk[0]?.sentBytes).toBeGreaterThan(0);
    expect(bulk[0]?.sentBytes).toBeGreaterThanOrEqual(fairest);
  });

  test('tells who has little to send from who is new and has much', () => {
    const { scheduler, give } = line(0);
    const [heap, keys] = [new Source('heap'), new Source('keys')];
    give(heap, 100_000);
    give(keys, 100);
    expect(scheduler.nextSparse()).toBe(keys);
    expect(scheduler.next()).toBe(keys);
    // More comes while it waits: it is one of the others then, and goes behind those that are new as well.
    give(keys, 100_000);
    expect(scheduler.nextSparse()).toBeUndefined();
    expect(scheduler.next()).toBe(heap);
  });

  test('has nothing to send when nobody has', () => {
    const { give, send } = line(0);
    expect(send()).toBeUndefined();
    const one = new Source('one');
    give(one, 10);
    expect(send()).toBe(one);
    expect(send()).toBeUndefined();
  });
});
