/**
 * A stream that had sent beyond its quantum and then had nothing more began the next round with a whole one, and while streams were new every
 * stream that came back began a round: by coming and going a stream had a multiple of its share.
 */
import { expect, test } from 'vitest';
import { type Schedulable, Scheduler, UNSCHEDULED } from '../../shared/mux/scheduler.ts';

const FRAME_BYTES = 16 * 1024;

class Source implements Schedulable<Source> {
  readonly schedule: Schedulable<Source>['schedule'] = { ...UNSCHEDULED };
  queuedBytes = 0;
  sentBytes = 0;

  get sendable(): boolean {
    return this.queuedBytes > 0;
  }
}

function twoStreams(quantumBytes: number) {
  const scheduler = new Scheduler<Source>();
  scheduler.quantumBytes = quantumBytes;
  const give = (source: Source, bytes: number): void => {
    source.queuedBytes += bytes;
    scheduler.activate(source);
  };
  const bulk = new Source();
  give(bulk, Number.MAX_SAFE_INTEGER / 2);
  const sendNext = (bulkBytes: number): void => {
    const source = scheduler.next();
    if (source === undefined) return;
    const bytes = Math.min(source.queuedBytes, source === bulk ? bulkBytes : FRAME_BYTES);
    source.queuedBytes -= bytes;
    source.sentBytes += bytes;
    scheduler.charge(source, bytes);
  };
  return { bulk, comesBack: new Source(), give, sendNext };
}

test('what a stream sent beyond its quantum is paid in the rounds after', () => {
  const quantumBytes = 4 * FRAME_BYTES;
  const { bulk, comesBack, give, sendNext } = twoStreams(quantumBytes);
  const sendAll = (): void => {
    while (comesBack.queuedBytes > 0) sendNext(FRAME_BYTES);
  };
  for (let round = 0; round < 100; round += 1) {
    give(comesBack, quantumBytes - 1);
    sendAll();
    give(comesBack, FRAME_BYTES);
    sendAll();
    // It is forgotten, and comes back when the other has begun another round, since that is a frame further than a whole number of quanta.
    const untilBytes = bulk.sentBytes + quantumBytes + (round === 0 ? FRAME_BYTES : 0);
    while (bulk.sentBytes < untilBytes) sendNext(FRAME_BYTES);
  }
  expect(bulk.sentBytes).toBeGreaterThanOrEqual(comesBack.sentBytes - 2 * quantumBytes - FRAME_BYTES);
});

test('a stream that comes back again and again passes one that is new for a quantum at most', () => {
  const quantumBytes = 64 * 1024;
  const { bulk, comesBack, give, sendNext } = twoStreams(quantumBytes);
  while (bulk.sentBytes < quantumBytes) {
    if (!comesBack.schedule.listed) give(comesBack, 1024);
    sendNext(64);
  }
  expect(comesBack.sentBytes).toBeLessThanOrEqual(2 * quantumBytes);
});
